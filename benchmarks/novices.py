"""A novice: a tiny model for which learning can be measured in minutes, and how what it wins is told.

It is a Llama of two layers that has watched two players of chance and one that knows the way, so that it can do the
right thing, and seldom does. Benchmarks of what a round can do play it where a real model would take days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentlab import Lab, LabConfig
from agentlab.agent.tasks import make_tasks
from agentlab.engines.scripted import ScriptedEngine
from agentlab.rounds.sampling import sample
from memory.records import Episode
from memory.store import EpisodeFilter
from trainers.gate import p_text, wilson

TOY = "toy/doors?colours=2,rooms=1,step_limit=4"


def reads_notes(transcript: str, command: str) -> float:
    """A player that wins: it reads the note, opens the door that it names, and takes the coin."""
    last = transcript.rstrip(">").rstrip().splitlines()[-1]
    if command.startswith("open "):
        return 0.0 if f"the {command.removeprefix('open ')} is safe" in last else -9.0
    return {"take coin": 0.0, "read note": -1.0}.get(command, -5.0)


def watched(folder: Path, env: str, config: LabConfig) -> list[Episode]:
    """Train games as two players of chance and one that knows the way play them, none of which a round trains on."""
    found = list[Episode]()
    for name, engine, seeds in (
        ("random", None, range(400, 1000)),
        ("base", ScriptedEngine(reads_notes), range(400, 700)),
    ):
        with Lab.open(folder.with_name(f"watched-{name}"), create=True, config=config, engine=engine) as lab:
            lab.evaluate(env, split="train", seeds=seeds, arms=[name])
            rows = lab.database.episodes.find(EpisodeFilter(arm=name))
            found += lab.database.episodes.load([row.id for row in rows])
    return found


def novice(folder: Path, env: str, steps: int = 900, batch: int = 8, rate: float = 3e-3) -> Path:
    """A tiny model that plays as those did whom it watched: mostly by chance, at times as one should."""
    import torch
    from tiny_models import make
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trainers.data import Tokenizer, from_episode
    from trainers.objectives import collate, weighted_sft
    from trainers.objectives.losses import Batch

    if (folder / "config.json").is_file():
        return folder
    base = make(folder.with_name("untrained"), "llama", hidden_size=64, intermediate_size=192)
    tokenize = Tokenizer.of(AutoTokenizer.from_pretrained(base))
    played = watched(folder, env, LabConfig(model=str(base), embedder="hashing"))
    examples = [from_episode(episode, tokenize) for episode in played]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).train()
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for step in range(steps):
        some = [examples[at] for at in torch.randint(len(examples), (batch,)).tolist()]
        loss = weighted_sft(model, Batch(*collate(some)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"watching: step {step} of {steps}, loss {loss.item():.3f}", flush=True)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def drawn(lab: Lab, env: str, adapter: str | None, seeds: Sequence[int]) -> dict[str, bool]:
    """Whether each dev game was won once, at temperature 1, the same random numbers for all who play it."""
    tasks = make_tasks([env], "dev", seeds)
    episodes = sample(lab, "before and after", tasks, adapter=adapter, temperature=1.0, trials=1, seed=0)
    return {one.task_id: one.won for one in episodes if one.status != "errored"}


def rate(outcomes: Mapping[str, bool]) -> str:
    """Won of played, with Wilson's 95 % interval."""
    won, n = sum(outcomes.values()), len(outcomes)
    low, high = wilson(won, n)
    return f"{won / n:.2f} ({won}/{n}) [{low:.2f}, {high:.2f}]"


def told(pair: Any) -> str:
    """The paired difference with its 95 % interval, and McNemar's exact p."""
    return f"{pair.difference:+.2f} [{pair.interval[0]:+.2f}, {pair.interval[1]:+.2f}], p {p_text(pair.p, '= ')}"
