"""Doors of files: adapters, models, jobs, games, what waits in the inbox, and a lab whose files are damaged."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tests.e2e.hostile_doors import Door, made, refused
from tests.e2e.hostile_values import Chance


def _weights(chance: Chance) -> bytes:
    """A file of weights: well-formed, of shapes that do not fit, or with a header that is none."""
    import torch
    from safetensors.torch import save

    if chance.random() < 0.5:
        shapes = [[2, 4], [4, 2]]
        if chance.random() < 0.6:
            shapes = [[chance.choice((0, 1, 2, 3, 4)) for _ in range(chance.randint(0, 3))] for _ in range(2)]
        kind = chance.choice((torch.float32, torch.float32, torch.float16, torch.int64, torch.bool))
        name = (
            "base_model.model.layers.0.q_proj"
            if chance.random() < 0.8
            else chance.text()[:50].encode(errors="replace").decode()
        )
        tensors = {
            f"{name}.lora_{side}.weight": torch.zeros(shape, dtype=kind)
            for side, shape in zip("AB", shapes, strict=True)
        }
        if chance.random() < 0.2:
            tensors.pop(chance.choice(list(tensors)))
        data = save(tensors)
        return chance.damaged(data) if chance.random() < 0.3 else data
    entry: Any = {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}
    header = chance.json(
        chance.like({"__metadata__": {"format": "pt"}, "a.lora_A.weight": entry, "a.lora_B.weight": entry})
    )
    if chance.random() < 0.2:
        header = b"[" * 50_000
    length = (
        len(header)
        if chance.random() < 0.8
        else chance.choice((0, 1, 2**31, 2**63, 2**64 - 1, max(len(header) - 1, 0)))
    )
    return length.to_bytes(8, "little") + header + bytes(chance.choice((0, 31, 32, 64)))


_ADAPTER = {
    "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none", "use_rslora": False,
    "task_type": "CAUSAL_LM", "base_model_name_or_path": "b", "fan_in_fan_out": False, "lora_dropout": 0.0,
}  # fmt: skip


class Adapters(Door):
    """Folders of adapters: their settings, weights and canary."""

    name, about = "adapters", "folders of adapters: settings, weights (safetensors), canary, card; merging"

    def knock(self, chance: Chance) -> None:
        from trainers.adapters import deltas
        from trainers.adapters.files import check_files
        from trainers.adapters.merging import MergeConfig
        from trainers.training.canary import Canary

        folder = self.folder / "adapter"
        folder.mkdir(exist_ok=True)
        settings = chance.like(_ADAPTER) if chance.random() < 0.5 else _ADAPTER
        (folder / "adapter_config.json").write_bytes(
            chance.json(settings) if settings is not _ADAPTER else json.dumps(_ADAPTER).encode()
        )
        (folder / "adapter_model.safetensors").write_bytes(_weights(chance))
        canary = {"token_ids": [1, 2, 3], "spans": [[1, 3]], "base_logprob": -3.0, "adapter_logprob": -1.0, "base": "f"}
        (folder / "canary.json").write_bytes(chance.json(chance.like(canary)))
        with refused():
            check_files(folder)
        with refused():
            Canary.load(folder / "canary.json").check(-1.0)
        with refused():
            delta = deltas.read(folder)
            merged = deltas.merge(
                [delta, delta], MergeConfig(method=chance.choice(("linear", "svd", "ties", "dare", "cat")))
            )
            deltas.write(self.folder / "merged", merged, [folder])


class Models(Door):
    """Folders of models."""

    name, about = "models", "folders of models: configuration, tokenizer, index, weights"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from tests import tiny_model

        tiny_model.make(folder / "whole")
        self.whole = {path.name: path.read_bytes() for path in (folder / "whole").iterdir()}

    def knock(self, chance: Chance) -> None:
        from agentlab.engines import model_folder
        from trainers.training import fingerprint

        folder = self.folder / "model"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, data in self.whole.items():
            if name == "model.safetensors" and chance.random() < 0.9:
                # The header alone, which is all that is looked at, with as many bytes as it names.
                (folder / name).symlink_to(self.folder / "whole" / name)
            elif chance.random() < 0.6:
                (folder / name).write_bytes(data)
            elif name.endswith(".json") and chance.random() < 0.7:
                with suppress(ValueError):
                    (folder / name).write_bytes(chance.json(chance.like(json.loads(data))))
            elif chance.random() < 0.8:
                (folder / name).write_bytes(_weights(chance) if name.endswith(".safetensors") else chance.damaged(data))
        if chance.random() < 0.2:
            index = {"metadata": {}, "weight_map": {"a": "model.safetensors"}}
            (folder / "model.safetensors.index.json").write_bytes(chance.json(chance.like(index)))
        with refused():
            config, tokenizer = model_folder.check(folder)
            model_folder.ends(folder, config, tokenizer)
        with refused():
            fingerprint(folder)


class Jobs(Door):
    """Folders of jobs, also such as come back from another machine."""

    name, about = "jobs", "folders of training jobs, sent and brought back"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import torch
        from safetensors.torch import save_file

        from trainers import BaseRef, JobConfig, job
        from trainers.data import Example
        from trainers.lineage import Lineage
        from trainers.training import seal
        from trainers.training.canary import Canary

        examples = [Example(token_ids=[1, 2, 3], weights=[0.0, 1.0, 1.0], episode="ep-1", task="t:train:0")]
        config = JobConfig(base=BaseRef(name="b", fingerprint="f", path=""), rank=2, alpha=4)
        self.job = job.create(folder / "ours", config, examples, Lineage(round="round-1", episodes=["ep-1"]))
        whole = folder / "whole"
        shutil.copytree(folder / "ours", whole)
        (whole / "adapter").mkdir()
        (whole / "adapter" / "adapter_config.json").write_text(json.dumps(_ADAPTER))
        save_file({"a": torch.zeros(2)}, whole / "adapter" / "adapter_model.safetensors")
        canary = Canary(token_ids=[1, 2, 3], spans=[(1, 3)], base_logprob=-3.0, adapter_logprob=-1.0, base="f")
        canary.save(whole / "canary.json")
        canary.save(whole / "adapter" / "canary.json")
        report = {
            "steps": 1, "examples": 1, "tokens": 2, "chosen_tokens": 2, "losses": [1.0], "seconds": 1.0,
            "tokens_per_second": 2.0, "resumed": 0, "device": "cpu", "dtype": "float32", "attention": "eager",
            "threads": 1, "versions": {},
        }  # fmt: skip
        (whole / "report.json").write_text(json.dumps(report))
        (whole / "done").write_text(seal.of(whole, self.job.id).model_dump_json())
        (whole / "curve.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
        self.whole = {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*") if path.is_file()}

    def knock(self, chance: Chance) -> None:
        from trainers import job, transport
        from trainers.training import seal
        from trainers.training.curve import read_curve

        folder = self.folder / "came"
        shutil.rmtree(folder, ignore_errors=True)
        for name, data in self.whole.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if chance.random() < 0.2:
                if name.suffix in (".json", "") and chance.random() < 0.8:
                    data = chance.json(chance.like(json.loads(data)))
                elif name.suffix == ".jsonl" and chance.random() < 0.8:
                    data = b"\n".join(chance.json(chance.like(json.loads(line))) for line in data.splitlines())
                elif name.suffix == ".safetensors":
                    data = _weights(chance)
                else:
                    data = chance.damaged(data)
            if chance.random() < 0.97:
                (folder / name).write_bytes(data)
        if chance.random() < 0.6:  # whoever sends it can seal it
            with suppress(OSError):
                (folder / "done").write_text(seal.of(folder, self.job.id).model_dump_json())
        with refused():
            job.load(folder)
        with refused():
            list(job.records(folder, 0, 3))
        with refused():
            job.result(folder)
        with refused():
            job.settings(folder)
        with refused():
            transport.take_over(folder, self.job)
        with refused():
            read_curve(folder)
        for name in ("done", "canary.json", "report.json"):
            (self.job.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.job.folder / "adapter", ignore_errors=True)


class Games(Door):
    """Files of games."""

    name, about = "games", "files of games: ALFWorld's and TextWorld's"

    def knock(self, chance: Chance) -> None:
        from environments import alfworld
        from environments.alfworld_planner import named, validate_expression
        from environments.textworld_files import games_of

        folder = self.folder / "games" / "train" / f"pick_and_place_simple-{chance.randint(0, 3)}" / "trial"
        shutil.rmtree(self.folder / "games", ignore_errors=True)
        folder.mkdir(parents=True)
        file = folder / "game.tw-pddl"
        meant = {
            "solvable": True,
            "pddl_domain": "(define)",
            "grammar": "grammar :: ",
            "pddl_problem": "(define)",
            "walkthrough": [],
        }
        if chance.random() < 0.05:
            file.mkdir()
        elif chance.random() < 0.05:
            file.symlink_to("nowhere")
        else:
            file.write_bytes(chance.json(chance.like(meant)))
        alfworld._games.cache_clear()
        with refused():
            alfworld._games(self.folder / "games" / "train", chance.choice(("any", "pick_and_place_simple")))
        with suppress(ValueError):
            validate_expression(chance.text())
        named([chance.text() for _ in range(3)])
        game = self.folder / "games" / chance.choice(("a.json", "a.z8", "a.ulx", "a.z3"))
        game.write_bytes(chance.json(chance.like({"KB": {}, "quests": [], "version": 1})) + b'"KB" "quests"')
        with refused():
            games_of(chance.choice((game, self.folder / "games")))


class Inbox(Door):
    """Rows of the inbox, which anybody can write who can write to the file."""

    name, about, anew = "inbox", "rows of the inbox of a lab's database", 2500

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        made(self.lab)
        from agentlab.workspace.config import read_config
        from agentlab.workspace.folding import Folding
        from memory import Database

        self.database = Database(self.lab / "lab.db")
        self.folding = Folding(self.lab / "lab.db", read_config(self.lab / "lab.toml"))

    def knock(self, chance: Chance) -> None:
        id = f"r-{chance.randrange(22)}"
        meant: dict[str, Any] = {
            "mend": {
                "verb": chance.choice(("pin", "unpin", "bench", "forget", "restore")),
                "ids": [id],
                "reason": "so",
            },
            "edit": {"id": id, "text": "Look.", "reason": ""},
            "undo": {"operation": "op-1", "namespace": None},
            "add": {"text": f"Door {chance.randrange(99)}.", "env": "toy/doors", "task": None, "tags": []},
            "drop": {"id": id},
        }
        verb = chance.some(list(meant))
        by = chance.choice(("cli", "screen", "mcp:a", "mcp:", chance.text()))
        payload: Any = chance.json(chance.like(meant.get(verb, {})))
        row = [chance.text() if chance.random() < 0.05 else value for value in ("2026-01-01", by, verb)]
        row = [value.encode("utf-8", "surrogatepass") if chance.random() < 0.1 else _storable(value) for value in row]
        payload = payload if chance.random() < 0.5 else _storable(payload.decode(errors="replace"))
        self.database.connection.execute(
            "INSERT INTO inbox (at, asked_by, verb, payload) VALUES (?, ?, ?, ?)", (*row, payload)
        )
        self.folding.fold()
        waiting = self.database.inbox.waiting()[0]
        assert not waiting, "what nobody can do is refused, and keeps nothing that stands behind it"

    def close(self) -> None:
        self.folding.close()
        self.database.close()


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode()


class Pages(Door):
    """A lab whose files are damaged: pages of the database and of its log, the index, checkpoints, the lock."""

    name, about = "pages", "damaged files of a lab (database, log, index, checkpoints, lock)"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        made(folder / "whole")
        from memory import Database

        # A log that holds something: the lab as a killed process leaves it.
        (folder / "killed").mkdir()
        with closing(Database(folder / "whole" / "lab.db")) as database:
            for number in range(30):
                database.settings.put(f"n{number}", "x" * 500)
            for path in (folder / "whole").iterdir():
                shutil.copy(path, folder / "killed")
        self.whole = {path.name: path.read_bytes() for path in (folder / "killed").iterdir()}

    def knock(self, chance: Chance) -> None:
        from agentlab.engines.scripted import ScriptedEngine
        from agentlab.lab import Lab
        from tests.e2e.hostile_doors import ENV

        shutil.rmtree(self.lab, ignore_errors=True)
        self.lab.mkdir()
        hit = {
            chance.choice([*sorted({*self.whole, ".lock", "checkpoints.db"} - {"lab.toml"})])
            for _ in range(chance.choice((1, 1, 2)))
        }
        for name, data in self.whole.items():
            (self.lab / name).write_bytes(_torn(chance, data) if name in hit else data)
        if ".lock" in hit:
            (self.lab / ".lock").write_bytes(
                chance.json(
                    {"pid": chance.number(), "host": chance.text(), "command": chance.value(), "since": chance.text()}
                )
            )
        engine = ScriptedEngine(lambda _, command: -len(command) / 10)
        with refused(), Lab.open(self.lab, write=False, progress=False) as lab:
            lab.memory.search("door", k=3)
            lab.database.operations.recent()
        # The command line says what SQLite says of the checkpoints.
        with suppress(sqlite3.DatabaseError), refused(), Lab.open(self.lab, engine=engine, progress=False) as lab:
            lab.database.connection.damage()
            lab.memory.search("door", k=3)
            lab.run(ENV, seeds=[5], trials=1, arm="base + memory", name="more")

    def changes(self) -> int:
        return 0  # what stands in pages that are torn may be anything; play learns


def _torn(chance: Chance, data: bytes) -> bytes:
    if len(data) < 4096 or chance.random() < 0.2:
        return chance.damaged(data)
    page = chance.randrange(len(data) // 4096) * 4096
    if chance.random() < 0.5:
        page = (len(data) - 1) // 4096 * 4096
    at = page + chance.randrange(min(4096, len(data) - page))
    return (
        data[:at]
        + (chance.randbytes(min(4096 - at % 4096, len(data) - at)) if chance.random() < 0.6 else b"")
        + (data[at + 4096 - at % 4096 :] if chance.random() < 0.7 else b"")
    )
