"""Training: loss-bearing tokens a second of a job, and of TRL's SFTTrainer on per-step prompts and on whole episodes.

    python benchmarks/training.py [--python-of-trl PATH] [--systems NAME ...] [--episodes N] [--passes N] [--batch N]
                                  [--steps N] [--threads N] [--dtype D] [--clock wall|cpu] [--folder PATH]

All train the same LoRA on the same base model and the same tokens: episodes of five to eight steps of four games, won
by trying at random and refined. A prompt for each step is how most public agents train: the history is paid for again
at every step. On whole episodes the loss is on the actions alone, as with ours.

TRL gets what suits it here: frozen weights in the same number format, the same kind of attention, activations kept (it
would compute them again), sequences of like length together, as many at once as ours has episodes a step, and as many
optimizer steps a pass. Each system has its own process; they take turns, one optimizer step at a time, so that all see
the same machine, and the first step of each is not counted. `--clock cpu` divides by processor time, which a busy
machine distorts less.

The losses at the end are those of one function on all episodes, in float32. The exit code is 1 if ours is less than 6
times as fast as per-step prompts or 1.5 times as fast as whole episodes, or ends with a loss more than 0.05 above
theirs; how fast it must be is asked on a CPU only. TRL runs under `--python-of-trl`, an environment with `trl`; without
it only ours is measured. On a GPU tokens a second, the share of the card's bfloat16 peak that was useful work, and peak
memory are told as well; `--steps` stops early and leaves the losses out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from cards import peak_of, useful_work
from machine import describe

from agentlab.engines import hub
from memory.records import Episode
from memory.text import read_lines
from trainers import job
from trainers.data import Example, from_episode
from trainers.objectives import collate, weighted_sft
from trainers.training import reference, resolve

GAMES = ("twx/simonsays", "twx/mapreader", "twx/peckingorder", "twx/coin")
STEPS = range(5, 9)
TITLES = {
    "ours": "ours",
    "trl-steps": "TRL, a prompt for each step",
    "trl-episodes": "TRL, whole episodes",
}
BOUNDS = {"trl-steps": 6.0, "trl-episodes": 1.5}
NOISE = 0.05
"""How much lower TRL's loss at the end may be, in nats a token: other initial weights and another order."""


def episodes(folder: Path, count: int) -> list[Episode]:
    """`count` refined successes, kept in `folder`; as many of each game as of any other, or one more."""
    from agentlab.agent.random_exploration import random_exploration
    from agentlab.trajectories.refinement import refine
    from environments import Task, make

    path = folder / f"episodes-{count}.jsonl"
    if path.exists():
        return [Episode.model_validate_json(line) for line in read_lines(path)]
    found: list[Episode] = []
    for number, game in enumerate(GAMES):
        wanted = (count + number) // len(GAMES)
        env, seed, kept = make(game), 0, 0
        while kept < wanted:
            tried = random_exploration(
                env, Task(env=game, split="train", seed=seed), run="benchmark", trials=40, seed=0
            ).episode
            seed += 1
            if not tried.won:
                continue
            refined = refine(tried, env)
            if len(refined.steps) in STEPS:
                found.append(refined)
                kept += 1
        env.close()
    path.write_text("".join(episode.model_dump_json() + "\n" for episode in found), encoding="utf-8")
    return found


@dataclass
class Run:
    """One system: its process, and what its steps took."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    adapter: Path | None = None
    peak: int | None = None

    def hear(self) -> dict[str, Any]:
        """The next line from the process. Exits if it died."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code, said = self.process.wait(), self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            first = f"{TITLES[self.name]} ended early with exit code {code}; the last that it said:"
            sys.exit("\n".join([first, *said[-20:]]))
        heard: dict[str, Any] = json.loads(line)
        return heard

    def step(self) -> bool:
        """One optimizer step; False once there is none left."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        heard = self.hear()
        if "adapter" in heard:
            self.adapter, self.peak = Path(heard["adapter"]), heard["peak"]
            return False
        self.wall.append(heard["wall"])
        self.cpu.append(heard["cpu"])
        self.tokens.append(heard["tokens"])
        return True

    def seconds(self, clock: str, threads: int) -> float:
        """Of all steps but the first; processor time as if all threads were always busy."""
        return sum(self.wall[1:]) if clock == "wall" else sum(self.cpu[1:]) / threads

    def speed(self, clock: str, threads: int) -> float:
        """Loss-bearing tokens a second."""
        return sum(self.tokens[1:]) / max(self.seconds(clock, threads), 1e-9)


def measure(
    systems: Sequence[str], folder: Path, pythons: dict[str, str], steps: int | None, patient: bool
) -> list[Run]:
    """Let all systems take their steps in turn, to the end or for `steps` steps.

    `patient` has idle threads sleep, where processor time counts.
    """
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    if patient:
        environment |= {"OMP_WAIT_POLICY": "PASSIVE"}
    worker = str(Path(__file__).with_name("training_workers.py"))
    runs = []
    for name in systems:
        with open(folder / f"{name}.log", "w", encoding="utf-8") as log:
            command = [pythons[name], "-P", worker, name, str(folder)]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )
        runs.append(Run(name, process, folder / f"{name}.log"))
    try:
        for run in runs:
            run.hear()
        active = list(runs)
        while active:
            active = [run for run in active if run.step() and (steps is None or len(run.wall) < steps)]
            if sys.stderr.isatty():
                print(f"step {len(runs[0].wall)}", end="\r", file=sys.stderr, flush=True)
    finally:
        for run in runs:
            run.process.kill()
            run.process.wait()
    return runs


@torch.no_grad()
def final_loss(base: Path, adapter: Path, examples: Sequence[Example]) -> float:
    """Nats per loss-bearing token over all episodes, in float32."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as noise

    noise.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    model.to(device).eval()
    cost = weight = 0.0
    for example in examples:
        batch = collate([example])
        own = float(batch.weights.sum())
        moved = type(batch)(*(tensor.to(device) for tensor in batch))
        cost += float(weighted_sft(model, moved)) * own
        weight += own
    return cost / weight


def on_card(runs: Sequence[Run], base: Path, rank: int, examples: Sequence[Example], threads: int) -> None:
    """Tell what a GPU was used for."""
    card = torch.cuda.get_device_name()
    peak = peak_of(card)
    chosen = sum(sum(map(bool, example.weights)) for example in examples)
    sizes = [(len(example), sum(map(bool, example.weights))) for example in examples]
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    work, tokens = useful_work(config, rank, sizes) / chosen, sum(map(len, examples)) / chosen
    print(f"\n{card}; bfloat16 peak {f'{peak / 1e12:.0f} TFLOP/s' if peak else 'unknown'}\n")
    print(
        "| system | tokens/s of episodes | useful TFLOP/s | share of the peak | peak memory, GiB |\n"
        "|---|---|---|---|---|"
    )
    for run in runs:
        speed = run.speed("wall", threads)
        share = f"{100 * speed * work / peak:.1f} %" if peak else "-"
        memory = f"{run.peak / 2**30:.2f}" if run.peak is not None else "-"
        print(f"| {TITLES[run.name]} | {speed * tokens:,.0f} | {speed * work / 1e12:.2f} | {share} | {memory} |")


def prepare(given: argparse.Namespace, folder: Path, base: Path) -> tuple[job.JobConfig, list[Example]]:
    """Write what the workers read: the job, the examples, and TRL's settings."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    played = episodes(folder, given.episodes)
    examples = [from_episode(it, lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]) for it in played]
    config = job.JobConfig(
        base=reference(given.model, base),
        batch_size=given.batch,
        epochs=given.passes,
        seed=given.seed,
        dtype=given.dtype,
        threads=given.threads,
        save_every=10**6,
        spike=0.0,
    )
    setup = resolve(config, max(map(len, examples)))
    job.create(folder / "job", config, examples)
    (folder / "examples.jsonl").write_text("".join(it.model_dump_json() + "\n" for it in examples), encoding="utf-8")
    settings = {
        "base": str(base),
        "batch": given.batch,
        "passes": given.passes,
        "learning_rate": config.learning_rate,
        "warmup": -(-int(1e6 * config.warmup_ratio) * -(-len(examples) // given.batch) * given.passes // 10**6),
        "rank": config.rank,
        "alpha": config.alpha,
        "seed": given.seed,
        "threads": given.threads,
        "device": setup.device,
        "attention": setup.attention if setup.device == "cpu" else "sdpa",
        "dtype": str(setup.dtype).removeprefix("torch."),
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    chosen = sum(sum(map(bool, example.weights)) for example in examples)
    print(
        f"{given.model}, {settings['dtype']}, LoRA of rank {config.rank}; {len(examples)} episodes, "
        f"{sum(map(len, examples)):,} tokens, {chosen:,} of them with loss; {given.batch} episodes a step, "
        f"{given.passes} passes\n{describe(given.threads)}\n",
        flush=True,
    )
    return config, examples


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a bound is broken."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--systems", nargs="+", choices=list(TITLES), default=list(TITLES))
    options.add_argument("--python-of-trl", help="the interpreter of an environment with trl")
    options.add_argument("--episodes", type=int, default=24)
    options.add_argument("--passes", type=int, default=2)
    options.add_argument("--batch", type=int, default=4, help="episodes a step")
    options.add_argument("--steps", type=int, help="stop after so many optimizer steps, without final losses")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--dtype", choices=["auto", "bfloat16", "float32"], default="auto")
    options.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options.add_argument("--folder", type=Path, help="where episodes are kept; the rest is made anew")
    options.add_argument("--model", default="SmolLM2-135M-Instruct")
    given = options.parse_args(arguments)
    systems = [name for name in given.systems if name == "ours" or given.python_of_trl]
    for name in sorted(set(given.systems) - set(systems)):
        print(f"{TITLES[name]}: left out; give the interpreter of an environment with trl as --python-of-trl")
    base = hub.resolve(given.model)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        kept = given.folder or folder
        kept.mkdir(parents=True, exist_ok=True)
        if kept != folder:
            for path in kept.glob("episodes-*.jsonl"):
                (folder / path.name).write_bytes(path.read_bytes())
        config, examples = prepare(given, folder, base)
        for path in folder.glob("episodes-*.jsonl"):
            (kept / path.name).write_bytes(path.read_bytes())
        pythons = {name: sys.executable if name == "ours" else given.python_of_trl for name in systems}
        runs = measure(systems, folder, pythons, given.steps, given.clock == "cpu")
        losses = {run.name: final_loss(base, run.adapter, examples) for run in runs if run.adapter is not None}
        return tell(runs, losses, given, base, config, examples)


def tell(
    runs: Sequence[Run],
    losses: dict[str, float],
    given: argparse.Namespace,
    base: Path,
    config: job.JobConfig,
    examples: Sequence[Example],
) -> int:
    """Print the table and what is broken; the exit code."""
    clock, threads = given.clock, given.threads
    speeds = {run.name: run.speed(clock, threads) for run in runs}
    broken = []
    print(f"| system | steps | loss-bearing tokens/s ({clock}) | s a step | ours is faster by | final loss |")
    print("|---|---|---|---|---|---|")
    for run in runs:
        ratio = speeds["ours"] / speeds[run.name] if "ours" in speeds and run.name != "ours" else None
        loss = losses.get(run.name)
        print(
            f"| {TITLES[run.name]} | {len(run.wall)} | {speeds[run.name]:.1f} "
            f"| {run.seconds(clock, threads) / max(len(run.wall) - 1, 1):.2f} "
            f"| {f'{ratio:.2f}' if ratio else '-'} | {f'{loss:.3f}' if loss is not None else '-'} |"
        )
        if ratio is not None and ratio < BOUNDS[run.name] and not torch.cuda.is_available():
            broken.append(f"only {ratio:.2f} times as fast as {TITLES[run.name]}, not {BOUNDS[run.name]}")
        if loss is not None and losses.get("ours", loss) > loss + NOISE:
            broken.append(f"ends at a loss of {losses['ours']:.3f}, {TITLES[run.name]} at {loss:.3f}")
    if torch.cuda.is_available():
        on_card(runs, base, config.rank, examples, threads)
    held = "The bounds on the losses hold." if torch.cuda.is_available() else "All bounds hold."
    print("\n" + ("\n".join(f"BROKEN: {line}" for line in broken) or held))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
