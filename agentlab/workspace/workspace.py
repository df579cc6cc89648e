"""A workspace: one folder on disk that holds a project, and its parts by name.

lab.toml         settings                      adapters/        LoRA adapters, one folder each
lab.db           the truth (SQLite)            jobs/            training jobs, one folder each
memory.faiss     a cache of it                 checkpoints.db   episodes and rounds in flight (LangGraph)
composed/        a cache of skills that were composed for some task
steering/        steering vectors (experimental), one folder each
vllm.log         what a vLLM server of its own wrote
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from agentlab import tracing
from agentlab.bars import visible
from agentlab.engines import hub, model_folder
from agentlab.engines.base import Batching, Closing
from agentlab.errors import AgentLabError, BadConfig, LabClosed, NotALab
from agentlab.progress import Progress, counted
from agentlab.workspace import checkpoints
from agentlab.workspace.config import LabConfig, check, read_config, rename_settings, write_config
from agentlab.workspace.folding import Folding
from agentlab.workspace.hiring import hired
from agentlab.workspace.loading import loaded, served
from agentlab.workspace.lock import WriteLock
from agentlab.workspace.recorded import Recorded
from agentlab.workspace.spending import Spending

if TYPE_CHECKING:
    from agentlab.engines.base import Engine
    from agentlab.engines.model import Model
    from agentlab.workers import Workers
    from memory import CreditConfig, Database, ReflectionMemory, SqliteFaissStore
    from memory.store import Events
    from trainers.adapters import AdapterRegistry

CONFIG_FILE = "lab.toml"

AT_ONCE = {"transformers": 2, "gathered": 16, "vllm": 16, "chat": 4}
"""Tasks in flight at once where the settings name no number."""


class Workspace:
    """One project: what it has, without what is done with it (`agentlab.lab.Lab` is both).

    Open it with `open`, as a context manager.

    Attributes:
        folder: where it lies.
        config: its settings.
        database: the SQLite file with everything that was lived and learned.
        progress: told how far long work is.
        spending: what models may take, and took since it was opened.
        workers: who plays its episodes, where that is not this process.
        kept: what was made of it to be shown, by name, for as long as it is open (`agentlab.views.standings`).
    """

    def __init__(self, folder: Path, config: LabConfig, *, write: bool, progress: Progress | bool = True) -> None:
        self.folder = folder
        self.config = config
        self.write = write
        drawn = progress if isinstance(progress, Progress) else visible() if progress else Progress()
        # Nothing is opened in order to tell of it.
        self.progress = Recorded(drawn, self._events) if write else drawn
        self._closing = ExitStack()
        self.spending = Spending()
        self.workers: Workers | None = None
        self.kept: dict[str, Any] = {}
        self.folding: Folding | None = None  # does what others ask for; only whoever writes has one
        self._closing.callback(self.kept.clear)
        self._closed = False
        self._engine: Engine | None = None
        self.engine_given = False  # whether it is somebody else's, who closes it

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
        progress: Progress | bool = True,
    ) -> Self:
        """Open a lab, or with `create` make one where there is none.

        `write=False` opens it for looking only, beside a writer, and changes nothing in the folder. `engine` plays
        instead of the model that the settings name (a scripted one in tests, or your own). Long work draws a bar in a
        terminal and in a notebook; `progress=False` is silent.

        Raises NotALab if the folder is no lab, LabLocked if another process is writing to it.
        """
        path, given = Path(folder).expanduser(), engine is not None
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
        renamed: list[str] = []
        lab = cls(path.resolve(), read_config(file, renamed.append), write=write, progress=progress)
        for notice in renamed:
            lab.progress.say(notice)
        lab._engine, lab.engine_given = engine, given
        if write:
            tracing.begin()
            lock = WriteLock(lab.folder / ".lock")
            lock.acquire()
            lab._closing.callback(lock.release)
            try:
                rename_settings(file)
                # What others asked for comes before whatever this one does, and nothing of it is left when it goes.
                lab.folding = Folding(lab.folder / "lab.db", lab.config)
                lab._closing.callback(lab.folding.close)
                lab.folding.begin()
            except BaseException:
                lab._closing.close()
                raise
        return lab

    def close(self) -> None:
        """Save the caches and give back the lock. What is asked of the lab afterwards raises LabClosed."""
        self._closed = True
        for part in ("database", "memory", "store", "adapters", "checkpointer"):
            self.__dict__.pop(part, None)
        if isinstance(self._engine, Closing) and not self.engine_given:
            self._engine.close()
        self.progress.close()
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

    def _events(self) -> Events | None:
        """Where what is told is written for others; None while the database is not open."""
        database: Database | None = self.__dict__.get("database")
        return database.events if database is not None and not self._closed else None

    # -- its parts ---------------------------------------------------------------------------------------------------

    @cached_property
    def database(self) -> Database:
        """The truth."""
        from memory import Database
        from memory.errors import MemoryStoreError
        from memory.store import UNFINISHED, finish

        self.must_be_open()
        path = self.folder / "lab.db"
        # A lab in which nothing was played yet has no file; who only looks makes none.
        looking = not self.write
        left = [name for name in ("memory.faiss", "checkpoints.db") if (self.folder / name).exists()]
        if left and (not path.exists() or not path.stat().st_size):
            raise NotALab(
                f"{path} is {'empty' if path.exists() else 'missing'}, though {left[0]} beside it says that something "
                "was played here; restore it from a copy, or choose another folder with --lab."
            )
        database = Database(
            ":memory:" if looking and not path.exists() else path,
            readonly=looking and path.exists(),
            notify=self.progress.say,
        )
        self._closing.callback(database.close)
        if self.write and database.settings.get(UNFINISHED):
            with suppress(MemoryStoreError):  # no room: another time
                finish(database)
                self.progress.say(f"What a purge that was stopped had left in {path.name} is deleted now.")
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
            progress=counted(self.progress, "embedding what was remembered", few=500),
            weights=Weights(recency=self.config.recency),
            namespace=self.config.namespace,
            quota=self.config.source_quota,
            credit=self.credit_config,
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
    def credit_config(self) -> CreditConfig:
        """How the memory measures what its items change."""
        from memory import CreditConfig

        return CreditConfig(self.config.hold_out, self.config.hold_out_cost, probation=self.config.probation)

    @cached_property
    def adapters(self) -> AdapterRegistry:
        """The adapters with their lineage."""
        from trainers.adapters import AdapterRegistry

        return AdapterRegistry(self.database, self.folder)

    @cached_property
    def checkpointer(self) -> Any:
        """LangGraph's SQLite saver for what is in flight."""
        self.must_write()
        _ = self.database  # first: checkpoints without a database are what is left of a lab that lost it
        return checkpoints.saver(self.folder / "checkpoints.db", self._closing)

    @property
    def model_folder(self) -> Path:
        """The base model's folder, fetched if need be."""
        return hub.resolve(self.config.model, say=self.progress.say)

    @property
    def threads(self) -> int:
        """Processor threads of this process: as set, or all that it may use."""
        return self.config.threads or len(os.sched_getaffinity(0))

    @property
    def engine(self) -> Engine:
        """The engine of this lab. The base's weights are loaded once, when it is first asked for."""
        if self._engine is None:
            check(self.config)
            if self.config.engine == "vllm":
                self._engine = served(self.config, self.folder / "vllm.log", self.progress.say)
            else:
                self._engine = self._load(self.config.model, self.config.server)
        return self._engine

    @property
    def concurrency(self) -> int:
        """Tasks in flight at once: as set, or as many as whoever answers takes well beside each other; of workers each
        has one."""
        if self.workers is not None:
            return self.workers.count
        if self.config.concurrency is not None:
            return self.config.concurrency
        gathered = self.config.engine == "transformers" and isinstance(self._engine, Batching)
        return AT_ONCE["gathered" if gathered else self.config.engine]

    def limit(self, *, cost: float | None = None, tokens: int | None = None) -> None:
        """Play on until models took so much: `cost` in US dollars, `tokens` read and written; None is no limit.

        What the stored episodes of a run took counts. What is played then raises LimitReached; the same call with a
        higher limit goes on. Raises BadConfig for a cost where prices are not known.
        """
        chat = self.config.chat
        if cost is not None and not (chat.price_in or chat.price_out):
            raise BadConfig(
                f"What tokens cost is not known, so --max-cost cannot be held; set price_in and price_out in the table "
                f"[chat] of {self.folder / CONFIG_FILE} (US dollars for a million tokens), or use --max-tokens."
            )
        self.spending = Spending(cost, tokens)

    def hire(self, asked: str) -> None:
        """Have others play from now on: `2` processes, or those of a Ray cluster; see `workspace.hiring.hired`.

        Raises what that does, AgentLabError if an engine was given to the lab.
        """
        self.must_write()
        if self.engine_given:
            raise AgentLabError("An engine of one's own plays in this process only; leave out the workers.")
        if self.workers is not None:
            self.workers.close()
        self.workers = hired(self.config, asked)
        self._closing.callback(self.workers.close)

    def model(self, adapter: str | None = None) -> Model:
        """The engine of this lab with `adapter` (an id; None: the base). What is given never turns to another one."""
        from agentlab.engines.base import Adapter
        from agentlab.engines.experimental import vectors
        from agentlab.engines.model import Model

        base = Model(self.engine)
        if adapter is None:
            return base
        if adapter.startswith(vectors.PREFIX):
            vectors.must_open(base.engine)
            return base.with_adapter(vectors.named(self.folder / "steering", adapter, self.fingerprint))
        record = self.adapters.get(adapter)
        return base.with_adapter(Adapter(record.id, self.adapters.folder_of(record.id, self.fingerprint)))

    def _proven(self, engine: Engine | None) -> Engine | None:
        """The engine, once all models that the settings name are here and can play: a lab is made for none that cannot.

        Those of the catalogue are known to; they are fetched when they are first needed.
        """
        for name in (self.config.embedder, self.config.critic):
            if name and name != "hashing" and name not in hub.CATALOGUE and not hub.behind_api(name):
                hub.resolve(name, say=self.progress.say)
        if self.config.critic and hub.behind_api(self.config.critic):
            self._load(self.config.critic)
        elif self.config.critic and self.config.critic not in hub.CATALOGUE:
            model_folder.check(hub.resolve(self.config.critic))
        if engine is None:
            check(self.config)
        here = self.config.engine == "transformers" and self.config.model in hub.CATALOGUE
        return engine or (None if here else self.engine)

    def take_model(self, name: str) -> bool:
        """Have another base model from now on; False in a lab where something was played, which belongs to its own.

        Raises UnknownModel, ModelUnavailable, BadModel, UnsupportedModel; the lab then keeps its model.
        """
        self.must_write()
        if self.database.episodes.find(limit=1) or self.adapters.list():
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
    def critic(self) -> Model | None:
        """The second model, for reflectors that have a part for one; None if the settings name none."""
        name = self.config.critic
        from agentlab.engines.model import Model

        return Model(self._load(name)) if name else None

    def _load(self, name: str, server: str = "") -> Engine:
        return loaded(self.config, name, self.threads, self.progress.say, server)

    @cached_property
    def fingerprint(self) -> str:
        """That of the base model's weights."""
        from trainers.training import fingerprint

        return fingerprint(self.model_folder)

    def serving(self) -> str | None:
        """The id of the adapter that serves; None while it is the base."""
        return self.adapters.serving()
