"""Model families through the whole tool: play, training, canary, gate and serving, each right or refused in one line.

    python benchmarks/families.py [--only FAMILY ...] [--out FILE]

For every family a tiny random model is made twice, so that each trait of a tokenizer and of the embeddings is there and
is not: once plain, and once with a tokenizer that adds BOS, without a padding token, with a chat template and with tied
embeddings. A lab of each runs a round on a toy game and lets the adapter serve. The columns:

- engine: the largest distance, in nats, of the scores of commands from a plain pass over the same tokens, in a
  conversation that is longer than the window of those that have one.
- job: whether examples are packed, or padded and why. Either is proved on the model before the first step; "off" is the
  distance, in nats a token, of the first loss from that of its examples one by one.
- trees: whether preference pairs are laid into trees (`dpo`).
- canary: whether the adapter, loaded for play, scores its text as it did when it was trained.
- gate: games that adapter and base both played to their ends. serve: games that the adapter played when it served.

The exit code is 1 if something is neither right nor refused.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from machine import describe
from tiny_models import FAMILIES, ODD, PLAIN, WINDOW, Tokens, make

from memory.store import EpisodeFilter

ENV = "toy/doors?colours=2,rooms=2,step_limit=6"
COMMANDS = ["look", "open black door", "open blue door", "open blue", "read note", "take coin"]
VARIANTS: dict[str, tuple[Tokens, bool]] = {
    "plain": (PLAIN, False),
    "BOS, no pad, template, tied": (Tokens(bos=True, pad=False, template=True), True),
}
CLOSE = 1e-3
"""Nats; everything is computed in float32."""

ROUND = {
    "envs": [ENV],
    "collect": "random",
    "seeds": 6,
    "random_trials": 20,
    "gate_seeds": 4,
    "held_out_seeds": 0,
    "retire": "off",
    "gate": {"alpha": 0.5, "min_pairs": 4, "sequential": False},
    "training": {"epochs": 1},
}


class Row(NamedTuple):
    """One line of the table."""

    family: str
    variant: str
    engine: str = "–"
    job: str = "–"
    trees: str = "–"
    canary: str = "–"
    gate: str = "–"
    serve: str = "–"
    right: bool = False


def refusal(error: Exception) -> str:
    """What an error of ours says, up to its first full clause; anything else is not a refusal, and is raised."""
    from agentlab.errors import AgentLabError
    from trainers.errors import TrainersError

    if not isinstance(error, (AgentLabError, TrainersError)) or "\n" in str(error):
        raise error
    return f"refused: {str(error).partition(';')[0]}"


def scored(engine: Any) -> float:
    """How far scores of commands are from plain passes, at the worst, in a conversation longer than a window."""
    from agentlab.engines.model import Model

    talk, worst = engine.conversation("Find the coin."), 0.0
    while len(talk.token_ids) < WINDOW + 40:
        talk.observe("You are in the attic. You see a note, a black door, a blue door.")
        scores = Model(engine).score(talk, COMMANDS).logprobs
        for command, score in zip(COMMANDS, scores, strict=True):
            whole = [*talk.token_ids, *engine.command_tokens(command)]
            worst = max(worst, abs(score - engine.logprob(whole, [(len(talk.token_ids), len(whole))])))
        talk.act("look")
    return worst


def off(folder: Path, examples: Sequence[Any], batch: Sequence[int], loss: float) -> float:
    """How far the loss of a job's first batch is from that of its examples one by one."""
    import torch

    from trainers.objectives import chosen_logprobs, collate
    from trainers.training import load_model

    model = load_model(folder)
    with torch.no_grad():
        alone = torch.cat([chosen_logprobs(model, collate([examples[index]]))[0] for index in batch])
    return abs(loss + float(alone.mean()))


def trees(folder: Path, example: Any) -> str:
    """Whether pairs of an example's length may be laid into trees on this model."""
    from trainers.data import Pair
    from trainers.errors import TrainersError
    from trainers.job import JobConfig
    from trainers.objectives import objective_of
    from trainers.training import check_model, load_model, reference

    other = example.model_copy(update={"token_ids": [*example.token_ids[:-1], example.token_ids[0]]})
    objective = objective_of(JobConfig(base=reference("tiny", folder), objective="dpo"))
    try:
        check_model(load_model(folder), objective, [Pair(better=example, worse=other)], nullcontext)
    except TrainersError as error:
        return refusal(error)
    return "right"


def tried(family: str, variant: str, place: Path) -> Row:
    """Take one model through all of it."""
    from agentlab.lab import Lab
    from agentlab.rounds import RoundConfig
    from agentlab.workspace.config import LabConfig
    from trainers import job as jobs
    from trainers.training import plan

    tokens, tied = VARIANTS[variant]
    folder = make(place / "model", family, tokens, tied=tied)
    config = LabConfig(model=str(folder), embedder="hashing", dtype="float32", threads=1, context=512)
    row = Row(family, variant)
    try:
        opened = Lab.open(place / "lab", create=True, config=config)
    except Exception as error:
        return row._replace(engine=refusal(error), right=True)
    with opened as lab:
        try:
            worst = scored(lab.engine)
        except Exception as error:
            return row._replace(engine=refusal(error), right=True)
        row = row._replace(engine=f"{worst:.0e}")
        try:
            report = lab.round(RoundConfig.model_validate(ROUND))
        except Exception as error:
            return row._replace(job=refusal(error), right=True)
        job = jobs.load(lab.folder / "jobs" / report.id)
        outcome = jobs.result(job.folder)
        assert outcome is not None and report.adapter is not None
        done = outcome.report
        first = plan(len(job.examples), job.config.batch_size, job.config.epochs, job.config.seed)[0]
        apart = off(folder, job.examples, first, done.losses[0])
        how = "packed" if done.packed else f"padded: {done.why_padded.partition(';')[0]}"
        longest = max(job.examples, key=len)
        # Loading it for play checks its canary.
        loaded = lab.model(report.adapter).adapter_id == report.adapter
        sings = outcome.canary.discriminates
        lab.adapters.promote(report.adapter, force=True)
        lab.run(ENV, split="test", seeds=range(2), trials=1, arm="adapter", name="serves")
        played = [row for row in lab.database.episodes.find(EpisodeFilter(run="serves")) if row.status != "errored"]
        served = sum(row.adapter == report.adapter for row in played)
        pairs = report.gate["paired"]["n"]
    return row._replace(
        job=f"{how} (off {apart:.0e})",
        trees=trees(folder, longest),
        canary="passes" if loaded and sings else "passes, but hardly tells" if loaded else "WRONG",
        gate=f"{pairs} pairs",
        serve=f"{served} of 2",
        right=worst < CLOSE and apart < CLOSE and loaded and pairs == 4 and served == 2,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if something is wrong and not refused."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--only", nargs="+", choices=[*FAMILIES, *ODD], default=[*FAMILIES, *ODD], metavar="FAMILY")
    options.add_argument("--out", type=Path, help="write the table there as well")
    given = options.parse_args(arguments)
    lines = [
        f"# Model families\n\n`python benchmarks/families.py`; {describe(1)}\n",
        "\n".join(line for line in (__doc__ or "").splitlines()[4:-2]) + "\n",
        f"Layers with a window see {WINDOW} tokens in these models. The last rows are of further families whose layers "
        "see less than everything, or keep it in another form than keys and values.\n",
        "| family | model | engine | job | trees | canary | gate | serve |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    wrong = []
    for family in given.only:
        for variant in VARIANTS:
            with tempfile.TemporaryDirectory() as place:
                try:
                    row = tried(family, variant, Path(place))
                except Exception as error:
                    row = Row(family, variant, f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:80]}")
            lines.append(f"| {' | '.join(map(str, row[:-1]))} |".replace(f"{place}/", ""))
            print(lines[-1], flush=True)
            if not row.right:
                wrong.append(f"{family}, {variant}")
    lines.append("\n" + (f"WRONG: {'; '.join(wrong)}." if wrong else "Each is right, or refused in one line."))
    print(lines[-1])
    if given.out:
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
