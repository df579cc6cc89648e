"""The doors by which something comes in from outside: each takes one hostile input after the other."""

from __future__ import annotations

import asyncio
import gzip
import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tests.e2e.hostile_values import Chance

ENV = "toy/doors?colours=2,rooms=1,step_limit=4"


class Door:
    """One door, over a folder of its own with a lab in `lab`.

    `knock` sends one input in and raises only what is a fault: what a door refuses, it refuses with an error of ours.
    """

    name = ""
    about = ""
    anew = 10**9
    """Inputs after which it begins with a new folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    def knock(self, chance: Chance) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what is open."""

    @property
    def lab(self) -> Path:
        return self.folder / "lab"

    def changes(self) -> int:
        """Versions of reflections that no operation of the history made; those of play and of what it begins with are
        meant to be there."""
        file = self.lab / "lab.db"
        if not file.exists():
            return 0
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT count(*) FROM reflection_versions WHERE operation IS NULL")
            return int(found.fetchone()[0])


def made(folder: Path) -> None:
    """A lab with something of each kind in it."""
    from agentlab.engines.scripted import ScriptedEngine
    from agentlab.lab import Lab
    from agentlab.workspace.config import LabConfig
    from memory.records import Reflection

    config = LabConfig(embedder="hashing", threads=1, source_quota=10**6)
    engine = ScriptedEngine(lambda _, command: -len(command) / 10)
    with Lab.open(folder, create=True, config=config, engine=engine, progress=False) as lab:
        lab.memory.remember(
            Reflection(id=f"r-{n}", kind="written", env="toy/doors", task=f"toy/doors:train:{n}", text=f"Door {n}.")
            for n in range(20)
        )
        lab.run(ENV, seeds=range(2), trials=1, arm="base + memory", name="played")
        lab.evaluate(ENV, seeds=range(2), arms=["random", "base"], name="table")


class Toml(Door):
    """`lab.toml` and the settings of a round."""

    name, about = "toml", "lab.toml, settings of a round"

    def knock(self, chance: Chance) -> None:
        from agentlab.rounds import RoundConfig
        from agentlab.workspace.config import LabConfig, parse, read_config, read_toml, rename_settings

        model: Any = chance.choice((LabConfig, RoundConfig))
        fields = list(model.model_fields)
        lines = []
        for _ in range(chance.randint(0, 6)):
            key = chance.some(fields)
            written = chance.choice((json.dumps(key), key, f"[{key}]", f"[[{key}]]", f"{key}.{chance.some(fields)}"))
            lines.append(written if written[:1] == "[" else f"{written} = {_toml(chance, chance.value(2))}")
        data = "\n".join(lines).encode("utf-8", "surrogatepass")
        if chance.random() < 0.3:
            data = chance.damaged(data)
        path = self.folder / "lab.toml"
        path.write_bytes(data)
        with refused():
            if model is LabConfig:
                read_config(path)
                rename_settings(path)
            else:
                parse(RoundConfig, read_toml(path), path)


def _toml(chance: Chance, value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(chance, one)}" for key, one in value.items()) + "}"
    if isinstance(value, list) and chance.random() < 0.9:
        with suppress(RecursionError):
            return "[" + ", ".join(_toml(chance, one) for one in value) + "]"
    try:
        return chance.choice((json.dumps(value), str(value)))
    except (RecursionError, ValueError):
        return "[" * 3000


def refused() -> suppress:
    """What a door may say of an input: an error of ours, or what the operating system refuses."""
    from agentlab.errors import AgentLabError
    from environments.errors import EnvironmentsError
    from memory.errors import MemoryStoreError
    from trainers.errors import TrainersError

    return suppress(AgentLabError, EnvironmentsError, MemoryStoreError, TrainersError, OSError)


class Files(Door):
    """Files of reflections that are imported."""

    name, about, anew = "import", "files of reflections (JSON lines, JSON, gzip), a file an input", 3000

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        made(self.lab)
        from memory import Database

        self.database = Database(self.lab / "lab.db")
        self.count = 0

    def knock(self, chance: Chance) -> None:
        from memory.interchange import import_reflections

        meant = {
            "id": f"x-{chance.randrange(50)}", "kind": "written", "env": "toy/doors", "task": "toy/doors:train:1",
            "text": "Beware.", "tags": ["a"], "advice": [{"state": "s", "action": "a", "value": 0.5}],
            "evidence": [{"episode": "ep-1", "steps": [0]}], "status": "active", "created_at": "2026-01-01T00:00:00Z",
            "namespace": "", "merged_into": None, "recalls": [], "links": [], "versions": [], "importance": 0.5,
        }  # fmt: skip
        rows = [chance.like(meant) for _ in range(chance.randint(1, 6))]
        joined = b"\n".join(chance.json(row) for row in rows)
        data = chance.choice((joined, chance.json(rows), chance.json(chance.value())))
        path = self.folder / chance.choice(("a.jsonl", "a.json", "a.jsonl.gz", "a.txt", "a.parquet"))
        path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
        with refused():
            import_reflections(
                self.database, path, replace=chance.random() < 0.3, strict=chance.random() < 0.2,
                keep_namespaces=chance.random() < 0.3, limit=10**9,
                source=chance.text()[:50] if chance.random() < 0.1 else None,
            )  # fmt: skip

    def close(self) -> None:
        self.database.close()


class Ids(Door):
    """Ids of everything, and moments."""

    name, about = "ids", "ids of environments, tasks, reflections, episodes, operations, adapters, rounds; moments"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        made(self.lab)
        from agentlab.lab import Lab

        self.opened = Lab.open(self.lab, progress=False)

    def knock(self, chance: Chance) -> None:
        import environments
        from agentlab.agent.arms import arm_of
        from agentlab.views.rounds import find_round
        from environments import Task
        from memory.store import EpisodeFilter, Filter, History
        from memory.text import moments

        lab, text = self.opened, chance.text()
        past = History(lab.database)
        doors: tuple[Callable[[], Any], ...] = (
            lambda: environments.canonical(text),
            lambda: environments.make(text),
            lambda: Task.parse(text),
            lambda: Task.parse(f"toy/doors:{text}"),
            lambda: environments.make(f"toy/doors?{text}"),
            lambda: lab.memory.show(text),
            lambda: lab.database.reflections.full_id(text),
            lambda: lab.database.episodes.get(text),
            lambda: past.operation(text),
            lambda: past.undo_batch(text),
            lambda: lab.adapters.get(text),
            lambda: find_round(lab, text),
            lambda: moments.typed(text, "2026-01-01T00:00:00.000000+00:00"),
            lambda: past.diff(text, chance.text()),
            lambda: arm_of(lab, text),
            lambda: lab.memory.search(text[:5000] or "a", k=3, wanted=Filter(env=text)),
            lambda: lab.database.episodes.find(EpisodeFilter(run=text, task=text), limit=2),
        )
        with refused():
            chance.choice(doors)()

    def close(self) -> None:
        self.opened.close()


class Mcp(Door):
    """Calls of a client of the memory server."""

    name, about, anew = "mcp", "calls of the memory server's tools, reading and writing", 3000

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        made(self.lab)
        from agentlab.lab import Lab
        from agentlab.memory_server import MemoryTools, memory_server

        self.opened = Lab.open(self.lab, write=False, progress=False)
        self.tools = MemoryTools(self.opened)
        self.server = memory_server(self.tools, allow_write=True)
        self.loop = asyncio.new_event_loop()

    def knock(self, chance: Chance) -> None:
        tools: dict[str, dict[str, Any]] = {
            "search_memory": {"query": "door", "k": 3, "env": "toy/doors", "kind": "written", "tag": None},
            "show_reflection": {"id": f"r-{chance.randrange(25)}"},
            "list_reflections": {"env": None, "task": None, "status": "active", "limit": 5, "before": None},
            "add_reflection": {
                "text": f"Door {chance.randrange(99)}.",
                "env": "toy/doors",
                "task": None,
                "tags": ["a"],
            },
            "forget_reflection": {"id": f"r-{chance.randrange(25)}"},
        }
        name = chance.choice(list(tools)) if chance.random() < 0.98 else chance.text()
        # Changes open the lab each time: they are fewer.
        if name in ("add_reflection", "forget_reflection") and chance.random() < 0.7:
            name = "search_memory"
        given = chance.like(tools.get(name, {}))
        if not isinstance(given, dict):
            given = {"query": given}
        self.loop.run_until_complete(self._called(name, given, chance.text()))

    async def _called(self, name: str, given: dict[str, Any], client: str) -> None:
        from types import SimpleNamespace

        from mcp.server.mcpserver.exceptions import ToolError

        tool = self.server._tool_manager.get_tool(name)
        if tool is None:
            return
        session = SimpleNamespace(client_params=SimpleNamespace(client_info=SimpleNamespace(name=client)))
        try:
            await tool.run(given, SimpleNamespace(session=session))  # type: ignore[arg-type]
        except ToolError as error:
            cause = error.__cause__
            from pydantic import ValidationError

            with refused():
                if cause is not None and not isinstance(cause, ValidationError | ToolError):
                    raise cause from None

    def close(self) -> None:
        self.loop.close()
        self.tools.close()
        self.opened.close()


class Http(Door):
    """Requests to the screens."""

    name, about, anew = "http", "requests to the screens: pages, data, forms, headers", 3000

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        made(self.lab)
        from agentlab.web.app import application
        from agentlab.web.safety import Access

        self.app = application(self.lab, Access(token="secret"))
        self.asgi = self.app.asgi()
        self.loop = asyncio.new_event_loop()

    def knock(self, chance: Chance) -> None:
        paths = (
            "/", "/memory", "/memory/r-1", "/memory/r-1/edit", "/memory/r-1/mend", "/memory/r-1/purge", "/episodes",
            "/rounds", "/rounds/round-1", "/adapters", "/comparisons", "/changes", "/static/x.js", "/memory.json",
            "/compare", "/why", "/tools", "/comparisons/table", "/changes/op-1/undo", "/memory/mend",
        )  # fmt: skip
        path = chance.choice(paths)
        if chance.random() < 0.4:
            path = f"{path.rpartition('/')[0]}/{quote(chance.text()[:3000], errors='surrogatepass')}"
        path += chance.choice(("", "", ".json", ".csv", "/"))
        fields = {
            chance.some(("q", "env", "page", "sort", "status", "kind", "limit", "id", "text", "reason", "verb", "name",
                         "why", "step", "arm", "run", "from", "to", "ids", "filter")): chance.some(
                ("r-1", "toy/doors", "2", "pin", "because", "Look.", ENV, "forget", "bench")
            )
            for _ in range(chance.randint(0, 4))
        }  # fmt: skip
        post = chance.random() < 0.35
        if post:
            fields |= {"token": "secret"} if chance.random() < 0.9 else {}
            fields.setdefault("reason", "so")
        data = urlencode([(key, value) for key, value in fields.items()], errors="surrogatepass").encode()
        if chance.random() < 0.15:
            data = chance.damaged(data)
        headers = [(b"host", b"127.0.0.1")]
        if post:
            headers += [(b"content-type", b"application/x-www-form-urlencoded"), (b"origin", b"http://127.0.0.1")]
            headers += [(b"content-length", str(len(data)).encode())]
        if chance.random() < 0.1:
            header = chance.choice((b"cookie", b"range", b"accept", b"content-type", b"host", b"if-modified-since"))
            headers.append((header, chance.text().encode("utf-8", "surrogatepass").replace(b"\n", b"")[:4000]))
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST" if post else "GET",
            "scheme": "http", "path": unquoted(path), "raw_path": path.encode(), "root_path": "",
            "query_string": b"" if post else data, "headers": headers, "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        self.loop.run_until_complete(self._asked(scope, data if post else b""))

    async def _asked(self, scope: dict[str, Any], body: bytes) -> None:
        status: list[int] = []
        sent: list[bytes] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])
            else:
                sent.append(message.get("body", b""))

        await self.asgi(scope, receive, send)
        assert status and (status[0] < 500 or b"traceback" not in b"".join(sent)), status

    def close(self) -> None:
        self.loop.close()
        for one in self.app.labs:
            one.close()


def unquoted(path: str) -> str:
    """A path as a server gives it to an application: what is no UTF-8 is replaced."""
    from urllib.parse import unquote

    return unquote(path.partition("?")[0], errors="replace")
