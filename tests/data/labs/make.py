"""A small lab as an earlier version made it, and what its commands answered then.

    PYTHONPATH=CHECKOUT python tests/data/labs/make.py FOLDER

CHECKOUT is a checkout of the version that is to make it: commit 5755126 made `version-7`, commit 52493da `version-9`
(the numbers are those of the database, `PRAGMA user_version`). FOLDER gets `version-N.tar.xz`: the base model
(untrained, 40,000 parameters), the lab, what `memory export` wrote of it, and `answers.json`, each command with the
JSON that it printed. The settings in `lab.toml` name the model as `MODEL`, for wherever it will lie.

The lab holds: games won at random, with memory, and with an adapter; reflections of several kinds, one pinned, one
edited, one whose edit was undone, one benched, one forgotten; what was imported; a consolidation; an evaluation; two
rounds, one of whose adapters serves; their merge; and a third round that was stopped before its gate.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import tarfile
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", COLUMNS="200")

TOY = "toy/doors?colours=2,rooms=1,step_limit=4"
HARDER = "toy/doors?colours=3,rooms=2,step_limit=6"
COIN = "twx/coin"
ROUND = {
    "envs": [TOY],
    "collect": "random",
    "seeds": 6,
    "random_trials": 6,
    "gate_seeds": 14,
    "held_out_seeds": 4,
    "selection": {"cap_per_task": 1},
    "training": {"learning_rate": 5e-3, "batch_size": 2, "epochs": 1, "rank": 2, "alpha": 4},
    "gate": {"min_pairs": 10},
}
NOTES = [
    {"id": "note-1", "text": "A note on the wall names the door that is safe.", "env": TOY, "kind": "note"},
    {"id": "note-2", "text": "Take the coin as soon as you see it.", "env": COIN, "kind": "note"},
]


def model(folder: Path) -> None:
    """Save an untrained Llama with a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({"<|endoftext|>": 0, **{letter: at + 1 for at, letter in enumerate(letters)}}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|endoftext|>").save_pretrained(
        folder
    )
    config = LlamaConfig(
        vocab_size=len(letters) + 1, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=2048, tie_word_embeddings=True, initializer_range=0.2,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)


class Commands:
    """The command line on one lab, in this process."""

    def __init__(self, lab: Path) -> None:
        self.lab = lab

    def __call__(self, *arguments: str) -> str:
        """What a command printed. One that fails ends the script."""
        from typer.testing import CliRunner

        from agentlab.cli import app

        print("agentlab", *arguments, file=sys.stderr)
        result = CliRunner().invoke(app, [*arguments, "--lab", str(self.lab)])
        if result.exit_code:
            raise SystemExit(f"{arguments} ended with {result.exit_code}: {result.output}")
        return result.stdout

    def json(self, *arguments: str) -> Any:
        """The JSON that a command prints."""
        return json.loads(self(*arguments, "--json"))


def play(lab: Path, base: Path) -> None:
    """Everything that the lab lives through."""
    from agentlab.config import LabConfig
    from agentlab.lab import Lab
    from agentlab.rounds import RoundConfig
    from agentlab.rounds.graph import run_round

    settings = LabConfig(
        model=str(base), embedder="hashing", dtype="float32", threads=1, context=1024, withhold=0.3, withhold_cost=1.0,
        recall_text=2, reflectors=["grounded", "exemplar", "hindsight"],
    )  # fmt: skip
    with Lab.open(lab, create=True, config=settings):
        pass
    run = Commands(lab)
    run("run", TOY, "--arm", "random", "--seeds", "0-3", "--trials", "3")
    run("run", COIN, "--arm", "random", "--seeds", "0-1", "--trials", "1")
    with Lab.open(lab) as opened:
        first = run_round(opened, RoundConfig.model_validate(ROUND))
    run("run", TOY, HARDER, "--seeds", "30-35", "--trials", "2")
    notes = lab.parent / "notes.jsonl"
    notes.write_text("".join(json.dumps({"task": "", "tags": [], **note}) + "\n" for note in NOTES))
    run("memory", "import", str(notes), "--source", "a friend")
    listed = [row for row in run.json("memory", "list") if row["status"] == "active"]
    texts = [row["id"] for row in listed if row["kind"] == "grounded" and row["text"]]
    run("memory", "pin", next(row["id"] for row in listed if row["kind"] == "note"))
    run("memory", "edit", texts[0], "Read the note before you open a door.")
    run("memory", "edit", texts[1], "This will be undone.")
    run("memory", "undo", run.json("memory", "history")[0]["id"])
    run("memory", "forget", texts[2])
    with Lab.open(lab) as opened:
        drawn = opened.database.execute("SELECT DISTINCT reflection FROM recalls WHERE withheld ORDER BY reflection")
        benched = next(id for (id,) in drawn if id not in texts[:3])
        opened.memory._change(benched, "benched: uplift -0.40 [-0.70, -0.10]", status="benched")
    run("memory", "consolidate")
    if not first.promoted:
        run("adapters", "promote", str(first.adapter), "--force")
    with Lab.open(lab) as opened:
        run_round(opened, RoundConfig.model_validate({**ROUND, "seed": 1}))
    with Lab.open(lab) as opened:
        adapters = [record.id for record in opened.adapters.list()]
    run("adapters", "merge", *adapters)
    run("eval", TOY, "--seeds", "0-3", "--split", "test", "--arm", "base + memory", "--arm", "adapter", "--trials", "1")
    with Lab.open(lab) as opened:
        run_round(opened, RoundConfig.model_validate({**ROUND, "seed": 2}), until="gate")


def answers(lab: Path) -> list[dict[str, Any]]:
    """What the commands answer: those that read, then on a copy an undo, and the unfinished round to its end."""
    run = Commands(lab)
    listed = run.json("memory", "list")
    asked: list[list[str]] = [
        ["memory", "search", "which door is safe"],
        ["memory", "search", "coin", "--env", COIN],
        ["memory", "list"],
        *(["memory", "show", row["id"]] for row in listed[:: max(1, len(listed) // 6)]),
        ["memory", "history"],
        ["memory", "stats"],
        ["episodes"],
        ["episodes", "--arm", "random"],
        ["adapters", "list"],
        ["rounds", "list"],
        *(["rounds", "show", f"round-{number}"] for number in (1, 2, 3)),
    ]
    found = [{"command": command, "answer": run.json(*command)} for command in asked]
    copy = Commands(lab.with_name("copy"))
    shutil.copytree(lab, copy.lab)
    undone = run.json("memory", "history")[0]["id"]
    copy("memory", "undo", undone)
    found.append({"command": ["memory", "undo", undone], "answer": copy.json("memory", "list")})
    shutil.rmtree(copy.lab)
    shutil.copytree(lab, copy.lab)
    found.append({"command": ["rounds", "run"], "answer": copy.json("rounds", "run")})
    found.append({"command": ["adapters", "list"], "answer": copy.json("adapters", "list")})
    shutil.rmtree(copy.lab)
    return found


def main(folder: Path) -> None:
    """Make the lab in `folder`, ask it, and pack it."""
    folder = folder.resolve()
    folder.mkdir(parents=True)
    model(folder / "model")
    lab = folder / "lab"
    play(lab, folder / "model")
    # As a lab lies there that nobody has open: one file, no log.
    with sqlite3.connect(lab / "lab.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    (folder / "answers.json").write_text(json.dumps(answers(lab), ensure_ascii=False))
    for form in ("jsonl", "parquet"):
        Commands(lab)("memory", "export", str(folder / f"export.{form}"))
    settings = (lab / "lab.toml").read_text()
    (lab / "lab.toml").write_text(settings.replace(str(folder / "model"), "MODEL"))
    for left in (".lock", "lab.db-wal", "lab.db-shm"):
        (lab / left).unlink(missing_ok=True)
    with tarfile.open(folder / f"version-{version}.tar.xz", "w:xz") as archive:
        for name in ("model", "lab", "answers.json", "export.jsonl", "export.parquet"):
            archive.add(folder / name, name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
