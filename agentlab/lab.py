"""A lab: one folder on disk that holds a project, and the calls that a person makes on it.

lab.toml         settings                      adapters/        LoRA adapters, one folder each
lab.db           the truth (SQLite)            jobs/            training jobs, one folder each
memory.faiss     a cache of it                 checkpoints.db   episodes and rounds in flight (LangGraph)
composed/        a cache of skills that were composed for some task
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from agentlab.config import LabConfig, read_config, write_config
from agentlab.engines import hub, model_folder
from agentlab.errors import AgentLabError, LabClosed, NotALab
from agentlab.lock import WriteLock
from agentlab.progress import Progress
from agentlab.tasks import make_tasks
from memory.records import content_id

if TYPE_CHECKING:
    from agentlab.arms import Arm
    from agentlab.engines.base import Engine
    from agentlab.evaluation import Table
    from agentlab.reflectors.base import Reflector
    from agentlab.rollout import Rollout, TaskResult
    from agentlab.rounds import RoundConfig, RoundReport
    from agentlab.twobytwo import TwoByTwo
    from environments.base import Split
    from memory import CreditConfig, Database, ReflectionMemory, SqliteFaissStore
    from trainers.adapters import AdapterRegistry

CONFIG_FILE = "lab.toml"


class Lab:
    """One project. Open it with `Lab.open`, as a context manager.

    Attributes:
        folder: where it lies.
        config: its settings.
        database: the SQLite file with everything that was lived and learned.
        progress: told how far long work is.
    """

    def __init__(self, folder: Path, config: LabConfig, *, write: bool, progress: Progress | None = None) -> None:
        self.folder = folder
        self.config = config
        self.write = write
        self.progress = progress or Progress()
        self._closing = ExitStack()
        self._closed = False
        self._engine: Engine | None = None

    # -- opening and closing ---------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        folder: Path | str = "lab",
        *,
        create: bool = False,
        write: bool = True,
        config: LabConfig | None = None,
        engine: Engine | None = None,
        progress: Progress | None = None,
    ) -> Lab:
        """Open a lab, or with `create` make one where there is none.

        `write=False` opens it for looking only, beside a writer, and changes nothing in the folder. `engine` plays
        instead of the model that the settings name (a scripted one in tests, or your own).

        Raises NotALab if the folder is no lab, LabLocked if another process is writing to it.
        """
        path = Path(folder).expanduser()
        file = path / CONFIG_FILE
        if not file.exists():
            if not create or not write:
                what = "is not a lab (it has no lab.toml)" if path.exists() else "does not exist"
                raise NotALab(f"{path} {what}; make one with `agentlab run` or `agentlab demo`, or give --lab FOLDER.")
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                raise NotALab(f"{path} exists and is not a lab; give --lab an empty or a new folder.")
            config = config or LabConfig()
            if engine is None:
                config = config.model_copy(update={"model": hub.lasting_name(config.model)})
            if config.critic:
                config = config.model_copy(update={"critic": hub.lasting_name(config.critic)})
            if config.embedder != "hashing":
                config = config.model_copy(update={"embedder": hub.lasting_name(config.embedder)})
            engine = cls(path.resolve(), config, write=write, progress=progress)._proven(engine)
            path.mkdir(parents=True, exist_ok=True)
            write_config(file, config)
        lab = cls(path.resolve(), read_config(file), write=write, progress=progress)
        lab._engine = engine
        if write:
            lock = WriteLock(lab.folder / ".lock")
            lock.acquire()
            lab._closing.callback(lock.release)
        return lab

    def close(self) -> None:
        """Save the caches and give back the lock. What is asked of the lab afterwards raises LabClosed."""
        self._closed = True
        for part in ("database", "memory", "store", "adapters", "checkpointer"):
            self.__dict__.pop(part, None)
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # What was remembered is embedded now rather than at somebody's first search; after Ctrl-C that can wait.
            if kind is None and self.write and "memory" in self.__dict__:
                self.memory.save()
        finally:
            self.close()

    def must_be_open(self) -> None:
        """Raise LabClosed if it was closed."""
        if self._closed:
            raise LabClosed(f"The lab {self.folder} was closed; open it again with Lab.open.")

    def must_write(self) -> None:
        """Raise AgentLabError if it was opened for looking only, or closed."""
        self.must_be_open()
        if not self.write:
            raise AgentLabError(f"The lab {self.folder} was opened for looking only; open it with write=True.")

    # -- its parts ---------------------------------------------------------------------------------------------------

    @cached_property
    def database(self) -> Database:
        """The truth."""
        from memory import Database

        self.must_be_open()
        path = self.folder / "lab.db"
        # A lab in which nothing was played yet has no file; who only looks makes none.
        looking = not self.write
        database = Database(":memory:" if looking and not path.exists() else path, readonly=looking and path.exists())
        self._closing.callback(database.close)
        return database

    @cached_property
    def memory(self) -> ReflectionMemory:
        """The long-term memory over the database."""
        from memory import HashingEmbedder, ReflectionMemory, SentenceTransformerEmbedder, Weights

        database, name = self.database, self.config.embedder
        embedder: Any
        if name == "hashing":
            embedder = HashingEmbedder()
        else:
            folder = hub.resolve(name, say=self.progress.say)
            embedder = SentenceTransformerEmbedder(folder, name, say=self.progress.say)
        # Recency depends on the clock; an agent's recall must not, or a resumed run would differ from an unbroken one.
        memory = ReflectionMemory(
            database,
            embedder,
            self.folder / "memory.faiss",
            notify=self.progress.say,
            weights=Weights(recency=self.config.recency),
            namespace=self.config.namespace,
            quota=self.config.source_quota,
            credit=self._credit,
        )
        self._closing.callback(memory.close)
        return memory

    @cached_property
    def store(self) -> SqliteFaissStore:
        """A LangGraph store in the lab's database, searched with the lab's embedder."""
        from memory import SqliteFaissStore

        store = SqliteFaissStore.of_memory(self.memory, notify=self.progress.say)
        self._closing.callback(store.close)
        return store

    @property
    def _credit(self) -> CreditConfig:
        from memory import CreditConfig

        return CreditConfig(withhold=self.config.withhold, max_cost=self.config.withhold_cost)

    @cached_property
    def adapters(self) -> AdapterRegistry:
        """The adapters with their lineage."""
        from trainers.adapters import AdapterRegistry

        return AdapterRegistry(self.database, self.folder)

    @cached_property
    def checkpointer(self) -> Any:
        """LangGraph's SQLite saver for what is in flight."""
        from langgraph.checkpoint.sqlite import SqliteSaver

        self.must_write()
        path = self.folder / "checkpoints.db"
        connection = sqlite3.connect(path, check_same_thread=False, timeout=30)
        self._closing.callback(connection.close)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.DatabaseError as error:
            raise NotALab(
                f"{path} cannot be read ({error}); delete it: it holds only what was in flight, which is played again."
            ) from error
        return SqliteSaver(connection)

    @property
    def model_folder(self) -> Path:
        """The base model's folder, fetched if need be."""
        return hub.resolve(self.config.model, say=self.progress.say)

    @property
    def threads(self) -> int:
        """Processor threads of this process: as set, or all that it may use."""
        return self.config.threads or len(os.sched_getaffinity(0))

    def engine(self, adapter: str | None = None) -> Engine:
        """The engine of this lab with `adapter` (an id; None: the base). What is given never turns to another one; the
        base's weights are loaded once."""
        if self._engine is None:
            self._engine = self._load(self.config.model, self.model_folder)
        if adapter is None:
            return self._engine
        record = self.adapters.get(adapter)
        return self._engine.with_adapter(record.id, self.adapters.folder_of(record.id, self.fingerprint))

    def _proven(self, engine: Engine | None) -> Engine | None:
        """The engine, once all models that the settings name are here and can play: a lab is made for none that cannot.

        Those of the catalogue are known to; they are fetched when they are first needed.
        """
        for name in (self.config.embedder, self.config.critic):
            if name and name != "hashing" and name not in hub.CATALOGUE:
                hub.resolve(name, say=self.progress.say)
        if self.config.critic and self.config.critic not in hub.CATALOGUE:
            model_folder.check(hub.resolve(self.config.critic))
        return engine or (None if self.config.model in hub.CATALOGUE else self.engine())

    def take_model(self, name: str) -> bool:
        """Have another base model from now on; False in a lab where something was played, which belongs to its own.

        Raises UnknownModel, ModelUnavailable, BadModel, UnsupportedModel; the lab then keeps its model.
        """
        self.must_write()
        if self.database.episodes(limit=1) or self.adapters.list():
            return False
        before, self.config = self.config, self.config.model_copy(update={"model": hub.lasting_name(name)})
        played, self._engine = self._engine, None
        try:
            self._engine = self._proven(None)
        except BaseException:
            self.config, self._engine = before, played
            raise
        self.__dict__.pop("fingerprint", None)
        write_config(self.folder / CONFIG_FILE, self.config)
        return True

    @cached_property
    def critic(self) -> Engine | None:
        """The second engine, for reflectors that have a part for one; None if the settings name none."""
        name = self.config.critic
        return self._load(name, hub.resolve(name, say=self.progress.say)) if name else None

    def _load(self, name: str, folder: Path) -> Engine:
        # Before the imports, which take the most of it.
        self.progress.say(f"Loading the model {name}.")
        from agentlab.engines.transformers import TransformersEngine

        return TransformersEngine(
            folder, name=name, dtype=self.config.dtype, context=self.config.context, threads=self.threads
        )

    @cached_property
    def fingerprint(self) -> str:
        """That of the base model's weights."""
        from trainers.training import fingerprint

        return fingerprint(self.model_folder)

    def serving(self) -> str | None:
        """The id of the adapter that serves; None while it is the base."""
        return self.adapters.serving()

    def arm(self, name: str) -> Arm:
        """An arm by name: `random`, `base`, `adapter`, each of the last two also as `… + memory`; or an adapter's id.

        `adapter` is the one that serves. `skills(A,B)` composes adapters for each task (`agentlab.router`).
        """
        from agentlab.arms import BASE, BASE_MEMORY, RANDOM, RecallConfig, adapter_arms, skills_arms
        from agentlab.router import parse

        plain, with_memory = name.removesuffix("+ memory").removesuffix("+memory").strip(), "memory" in name
        text, exemplars = self.config.recall_text, self.config.recall_exemplars
        if plain == "random" and with_memory:
            raise AgentLabError("The arm 'random' has no memory; use 'random', or 'base + memory'.")
        if plain == "random":
            return RANDOM
        if plain == "base":
            recall = RecallConfig(text=text, exemplars=exemplars)
            return BASE_MEMORY.with_(recall=recall) if with_memory else BASE
        if plain.startswith("skills"):
            return skills_arms(parse(plain, self._adapter_named), text=text)[int(with_memory)]
        adapter = self.serving() if plain == "adapter" else self._adapter_named(plain)
        if adapter is None:
            raise AgentLabError(
                "No adapter serves yet, so there is no arm 'adapter'; run `agentlab rounds` first, or use 'base'."
            )
        return adapter_arms(adapter, "adapter" if plain == "adapter" else adapter, text=text)[int(with_memory)]

    def _adapter_named(self, name: str) -> str:
        from trainers.errors import UnknownAdapter

        try:
            return self.adapters.get(name).id
        except UnknownAdapter as error:
            near = get_close_matches(name, ["random", "base", "adapter"], n=1)
            if not near:
                raise
            raise UnknownAdapter(f"There is no arm {name!r}; did you mean {near[0]!r}?") from error

    # -- work ----------------------------------------------------------------------------------------------------------

    def rollout(
        self,
        run: str,
        arm: Arm,
        *,
        reflectors: Sequence[str | Reflector] | None = None,
        seed: int | None = None,
        refining: bool = False,
    ) -> Rollout:
        """A rollout of this lab for an arm, with its engine, memory and checkpoints. Close it after use.

        With `refining` it keeps the refined forms of what it wins on train games too.

        Raises UnknownReflector for a name that no reflector has.
        """
        from agentlab.engines.random import RandomEngine
        from agentlab.recall import Recaller, counter
        from agentlab.reflectors.registry import build
        from agentlab.rollout import Rollout

        self.must_write()
        begun = self.begun(run)
        engine = RandomEngine() if arm.engine == "random" else self.engine(arm.adapter)
        recaller = router = None
        if arm.router is not None:
            from agentlab.router import Router

            router = Router.of(self, arm.router, engine)
        if arm.recall is not None:
            credit = self._credit if self.config.credit and arm.recall.credit else None
            recaller = Recaller(self.memory, run, begun, count_tokens=counter(engine), credit=credit)
        return Rollout(
            run,
            self.database,
            engine,
            memory=self.memory if arm.recall is not None else None,
            recaller=recaller,
            reflectors=build(self.config.reflectors if reflectors is None else reflectors, engine, lambda: self.critic),
            checkpointer=self.checkpointer,
            router=router,
            concurrency=self.config.concurrency,
            seed=self.config.seed if seed is None else seed,
            refining=refining,
        )

    def run(
        self,
        envs: str | Sequence[str],
        *,
        split: Split = "train",
        seeds: Sequence[int] = range(10),
        trials: int = 3,
        arm: str | Arm = "base + memory",
        name: str | None = None,
        reflectors: Sequence[str | Reflector] | None = None,
        again: bool = False,
    ) -> list[TaskResult]:
        """Play tasks; what is lived and learned stays in the lab. The same call again goes on where it stopped.

        A run recalls what was known when it first began. Without a `name` it has one that follows from its games, its
        arm and the reflectors asked for, so that other games are another run, which recalls what this one taught.
        `reflectors` are names (see `agentlab.reflectors.registry`) or one's own; by default those of the settings.
        With `again` what errors is played once more at the end.
        """
        chosen = self.arm(arm) if isinstance(arm, str) else arm
        tasks = make_tasks(envs, split, seeds)
        if name is None:
            who = [one if isinstance(one, str) else one.name for one in reflectors or ()]
            who += ["none"] if reflectors is not None and not who else []
            name = content_id(f"run-{split}", chosen.identity, *(task.id for task in tasks), *who)
            self.tell_what_is_known(name)
        rollout = self.rollout(name, chosen, reflectors=reflectors, refining=True)
        stage = f"{chosen.name}, {split}"
        self.progress.start(stage, len(tasks))
        won = 0

        causes = set[str]()

        def told(result: TaskResult) -> None:
            nonlocal won
            won += bool(result.won_within(trials))
            for error in {trial.error for trial in result.trials if trial.error} - causes:
                causes.add(error)  # each cause once, however many episodes it ends
                self.progress.say(f"{result.task.id} errored: {error}")
            self.progress.advance(stage, 1, f"{won} won")

        try:
            results = rollout.play(tasks, chosen, trials=trials, again=again, progress=told)
        finally:
            rollout.close()
            self.progress.finish(stage)
        if split == "train" and rollout.recaller is not None and rollout.recaller.credit is not None:
            self._review()
        # Not after held-out games: the arms of an evaluation must all find the same memory.
        if split == "train" and self.config.consolidate_every:
            from agentlab.consolidation import consolidate_when_due

            consolidate_when_due(self)
        return results

    def _review(self) -> None:
        """Bench what is credibly harmful by now, and say so."""
        for verdict in self.memory.credit.review():
            self.progress.say(f"{verdict.reflection} is {verdict.change}; `agentlab memory restore` overrules that.")

    def evaluate(
        self,
        envs: str | Sequence[str],
        *,
        split: Split = "test",
        seeds: Sequence[int] = range(20),
        arms: str | Arm | Sequence[str | Arm] = ("random", "base", "base + memory"),
        trials: int = 1,
        name: str | None = None,
        again: bool = False,
    ) -> Table:
        """Measure arms side by side on the same tasks and seeds.

        With `trials` > 1 every arm but `random` is also shown within that many trials: for an arm without memory that
        row is the plain Retry arm.

        Without a `name` it has one that follows from what it measures and with which adapters. One that was stopped,
        or in which games errored, goes on where it stopped; one that is finished gives its table again, until more is
        known: then arms with memory are measured anew, with what is known by now. `about` has name and date. With
        `again` what errors is played once more at once.
        """
        from agentlab.evaluation import evaluate

        return evaluate(self, envs, split=split, seeds=seeds, arms=arms, trials=trials, name=name, again=again)

    def round(self, config: RoundConfig) -> RoundReport:
        """Collect, select, train, gate, and promote or reject. An unfinished round is finished first."""
        from agentlab.rounds import run_round

        self.must_write()
        return run_round(self, config)

    def rounds(self) -> list[RoundReport]:
        """Reports of all rounds, oldest first."""
        from agentlab.rounds import reports

        return reports(self)

    def two_by_two(self, envs: str | Sequence[str], **settings: Any) -> TwoByTwo:
        """Memory off and on × adapter old and new: see `agentlab.twobytwo.two_by_two` for the settings."""
        from agentlab.twobytwo import two_by_two

        return two_by_two(self, envs, **settings)

    def begun(self, run: str) -> str:
        """When a run began, which may be now."""
        from memory.records import now

        with self.database.transaction():
            begun = self.database.journal_get("run", run) or {"at": now()}
            self.database.journal_put("run", run, begun)
        return str(begun["at"])

    def tell_what_is_known(self, run: str) -> None:
        """Say it, if something was learned since a run began: it goes on without."""
        begun = self.database.journal_get("run", run)
        newest = self.database.reflections(
            split="train", exclude_run=run, namespace=self.config.namespace, newest=True, limit=1
        )
        if begun is not None and newest and newest[0].created_at > begun["at"]:
            self.progress.say(
                f"Going on with '{run}' as it began on {begun['at'][:16]} UTC: what was learned since does not serve "
                "it. Under another name (--name) it begins anew."
            )
