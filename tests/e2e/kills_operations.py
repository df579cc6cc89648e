"""What is killed: operations on a real lab of the toy game and a tiny model, each with the lab that it begins with."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENV = "toy/doors?colours=2,rooms=1,step_limit=4"
SECRET = "The silver key opens the cellar behind the oven."
OLD = Path(__file__).parents[1] / "data" / "labs" / "version-9.tar.xz"
NOTES = 40


@dataclass(frozen=True)
class Shelf:
    """Where an operation finds what lies outside of its lab: the tiny `model`, and a `file` to be imported."""

    model: Path
    file: Path


def opened(folder: Path, shelf: Shelf) -> Any:
    """The lab in a folder, one game in flight: what is played is then the same in every table, number for number."""
    from agentlab.lab import Lab
    from agentlab.workspace.config import LabConfig

    config = LabConfig(
        model=str(shelf.model), embedder="hashing", dtype="float32", threads=1, context=512, concurrency=1
    )
    return Lab.open(folder, create=True, config=config, progress=False)


def settings() -> Any:
    """Those of the round whose nodes are killed; it learns, and its adapter is promoted."""
    from agentlab.rounds import RoundConfig, TrainingConfig
    from trainers.data.selection import SelectionConfig
    from trainers.gate.gate import GateConfig

    return RoundConfig(
        envs=[ENV],
        collect="both",
        seeds=8,
        random_trials=10,
        model_trials=1,
        gate_seeds=14,
        held_out_seeds=3,
        selection=SelectionConfig(cap_per_task=1),
        training=TrainingConfig(learning_rate=5e-3, batch_size=2, epochs=4, save_every=4),
        gate=GateConfig(min_pairs=10),
    )


def judging() -> Any:
    """Those of a round whose own model judges what was tried, and its judgements."""
    from agentlab.rounds import RoundConfig

    search = {"budget": {"steps": 60}, "settings": {"iterations": 4, "wins": 4}}
    return RoundConfig.model_validate({
        "envs": [ENV], "collect": "best_of_n", "seeds": 8, "search": search, "gate_seeds": 14, "held_out_seeds": 0,
        "training": {"objective": "dpo"},
        "preferences": {"sources": ["judge"], "judge": {"samples": 2, "judgements": 1.0}},
    })  # fmt: skip


def round_until(node: str | None, asked: Callable[[], Any] = settings) -> Callable[[Path, Shelf], None]:
    """Runs the round of a lab until a node, or to its end."""

    def work(folder: Path, shelf: Shelf) -> None:
        from agentlab.rounds.graph import run_round

        told = folder.parent / "told"  # whoever was told that a round has ended begins another one by the same command
        if told.exists():
            return
        with opened(folder, shelf) as lab:
            if run_round(lab, asked(), until=node).ended:
                told.touch()

    return work


def watched(folder: Path, shelf: Shelf) -> None:
    """A reflection helps the base and no longer the adapter that serves: the node `retire` has something to do."""
    from memory.records import Episode, Recall, Reflection

    with opened(folder, shelf) as lab:
        lab.memory.remember([Reflection(id="rf-1", kind="exemplar", env=ENV, task=f"{ENV}:train:900", text="Read.")])
        serving = lab.serving()
        assert serving is not None
        with lab.database.transaction():
            for adapter, counts in ((None, (50, 20, 60)), (serving, (178, 178, 180))):
                for side, won in zip("sw", counts[:2], strict=True):
                    for n in range(counts[2]):
                        id = f"{adapter}-{side}-{n}"
                        status: Any = "won" if n < won else "lost"
                        lab.database.episodes.put(
                            Episode(id=id, run="r", env=ENV, split="train", seed=n, adapter=adapter, status=status)
                        )
                        recall = Recall(
                            episode=id, reflection="rf-1", rank=0, query="q", score=1.0, env=ENV, won=n < won,
                            held_out=side == "w", propensity=0.5,
                        )  # fmt: skip
                        lab.database.recalls.put([recall])


def search(folder: Path, shelf: Shelf) -> None:
    from agentlab.agent.tasks import make_tasks
    from agentlab.search.tasks import search_tasks
    from agentlab.trajectories.budget import Budget

    with opened(folder, shelf) as lab:
        search_tasks(lab, "search", make_tasks([ENV], "train", range(5)), budget=Budget(steps=40))


def play(folder: Path, shelf: Shelf) -> None:
    with opened(folder, shelf) as lab:
        lab.run(ENV, seeds=range(4), trials=2, arm="base + memory", name="played")


def evaluate(folder: Path, shelf: Shelf) -> None:
    with opened(folder, shelf) as lab:
        lab.evaluate(ENV, seeds=range(3), arms=["random", "base", "base + memory"])


def canary(folder: Path, shelf: Shelf) -> None:
    """The adapter is attached, proves by its canary that it is on, and plays."""
    with opened(folder, shelf) as lab:
        (adapter,) = lab.adapters.list()
        lab.run(ENV, split="test", seeds=range(2), trials=1, arm=adapter.id, name="proven")


def learned(folder: Path, shelf: Shelf) -> None:
    """Notes, some of which say the same, and games that were played with them."""
    from memory.records import Reflection

    places = ("hall", "cellar", "kitchen", "garden")
    with opened(folder, shelf) as lab:
        lab.memory.remember(
            Reflection(
                id=f"r-{n}", kind="written", env=ENV, task=f"{ENV}:train:{n % 6}",
                text=f"Read the note in the {places[n % 4]} before you open door {n % 10 // 2}.",
            )
            for n in range(NOTES)
        )  # fmt: skip
        lab.memory.remember(
            Reflection(
                id=f"r-old-{n}", kind="written", env=ENV, task=f"{ENV}:train:{n}", text=f"Nobody came by door {n}.",
                created_at="2020-01-01T00:00:00+00:00", importance=0.1,
            )
            for n in range(4)
        )  # fmt: skip
        lab.memory.remember([Reflection(id="r-key", kind="written", env=ENV, task=f"{ENV}:train:1", text=SECRET)])
        lab.run(ENV, seeds=range(2), trials=1, arm="base + memory", name="before")


def consolidate(folder: Path, shelf: Shelf) -> None:
    from agentlab.experiments.consolidation import consolidation

    with opened(folder, shelf) as lab, lab.database.operations.batch("consolidate"):
        consolidation(lab).run()


def undo(folder: Path, shelf: Shelf) -> None:
    """The last command that changed the memory is taken back, as `agentlab memory undo` does."""
    from agentlab.workspace.asking import ask
    from agentlab.workspace.requests import CLI, Undo
    from memory.errors import CannotUndo

    noted = folder.parent / "to-undo"
    if not noted.exists():
        with opened(folder, shelf) as lab:
            noted.write_text(lab.database.operations.batches(limit=1)[0].id)
    try:
        ask(folder, Undo(operation=noted.read_text()), CLI)
    except CannotUndo as done:
        assert "undone already" in str(done)


def bring_in(folder: Path, shelf: Shelf) -> None:
    from memory.interchange import import_reflections

    with opened(folder, shelf) as lab:
        import_reflections(lab.database, shelf.file, namespace=lab.config.namespace)


def waiting(folder: Path, shelf: Shelf) -> None:
    """What others ask for lies in the inbox."""
    from agentlab.workspace.requests import CLI, SCREEN, Add, Edit, Mend, client, payload_of, verb_of
    from memory.store import Database

    learned(folder, shelf)
    asked: list[tuple[str, Any]] = [(SCREEN, Edit(id=f"r-{n}", text=f"Look behind door {n}.")) for n in range(4)]
    asked += [(CLI, Mend(verb="pin", ids=["r-9"])), (CLI, Mend(verb="forget", ids=["r-11", "r-13"]))]
    asked += [(client("c"), Add(text=f"Coins lie behind door {n}.", env=ENV)) for n in range(4)]
    with closing(Database(folder / "lab.db", guest=True)) as database:
        for by, request in asked:
            database.inbox.put(by, verb_of(request), payload_of(request))


def inbox(folder: Path, shelf: Shelf) -> None:
    from memory.errors import DiskFull
    from memory.store import Database

    opened(folder, shelf).close()
    with closing(Database(folder / "lab.db", guest=True)) as database:
        if database.inbox.waiting()[0]:  # for lack of room, which `memory history` and `doctor` tell of
            raise DiskFull("What was asked for waits: the disk is full.")


def migrate(folder: Path, shelf: Shelf) -> None:
    with opened(folder, shelf) as lab:
        lab.database.episodes.count()


def old(folder: Path, shelf: Shelf) -> None:
    """A lab as an earlier version left it."""
    with tarfile.open(OLD) as archive:
        archive.extractall(folder.parent / "old", filter="data")
    shutil.move(folder.parent / "old" / "lab", folder)


def purge(folder: Path, shelf: Shelf) -> None:
    from agentlab.workspace.purging import purge_all
    from memory.errors import UnknownReflection

    with opened(folder, shelf) as lab:
        _ = lab.database  # whoever opens it to write does what a purge that was killed has left
        with suppress(UnknownReflection):  # it was purged before
            purge_all(lab, ["r-key"])


def empty(folder: Path, shelf: Shelf) -> None:
    """No lab yet."""


@dataclass(frozen=True)
class Operation:
    """`work` is killed; it begins with the lab that the operation `after` leaves, or `make` makes of that."""

    work: Callable[[Path, Shelf], None]
    after: str = ""
    make: Callable[[Path, Shelf], None] = empty
    shrinks: bool = False
    """Whether rows are deleted by it, as they are meant to be."""
    ages: bool = False
    """Whether it goes by how old things are: where its clock jumps by weeks, it does other things, rightly."""
    slow: bool = False


OPERATIONS: dict[str, Operation] = {
    "collect": Operation(round_until("select"), slow=True),
    "select": Operation(round_until("train"), after="collect"),
    "judge": Operation(round_until("train", judging), make=round_until("judge", judging), slow=True),
    "train": Operation(round_until("gate"), after="select", slow=True),
    "canary": Operation(canary, after="train"),
    "gate": Operation(round_until("promote"), after="train", slow=True),
    "promote": Operation(round_until("retire"), after="gate"),
    "retire": Operation(round_until(None), after="promote", make=watched),
    "search": Operation(search),
    "run": Operation(play, make=learned, slow=True),
    "evaluate": Operation(evaluate, make=learned, slow=True),
    "consolidate": Operation(consolidate, make=learned, ages=True),
    "undo": Operation(undo, after="consolidate"),
    "import": Operation(bring_in, make=learned),
    "inbox": Operation(inbox, make=waiting),
    "migrate": Operation(migrate, make=old),
    "purge": Operation(purge, make=learned, shrinks=True),
}


def notes_file(path: Path) -> None:
    """What is imported: reflections as another lab exports them."""
    rows = [
        {"id": f"n-{n}", "kind": "written", "env": ENV, "task": f"{ENV}:train:{n}", "text": f"Beware of door {n}."}
        for n in range(120)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
