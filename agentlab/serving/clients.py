"""Who may chat: the clients that a person has given keys to, in `clients.toml` of a lab, with the hashes of the keys.

A lab without that file serves whoever is on this machine, without a key and in the lab's own namespace. With it,
everybody needs a key, also when nobody is left in it: who was shut out does not come in again without one.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, RootModel

from agentlab.errors import AgentLabError
from agentlab.workspace.config import parse, read_toml
from agentlab.workspace.requests import chatting

FILE = "clients.toml"
ABOUT = """\
# Who may chat with `agentlab serve`. Of a key only its SHA-256 is here. `agentlab serve --client NAME` makes a client,
# or a new key for one; to shut one out, delete its part. `namespace` is whose memory it reads and adds to.
"""
NAME = r"[a-z0-9][a-z0-9_-]{0,39}"
KEY_BYTES = 32


class Client(NamedTuple):
    """Who asks: `by` is the source of what is noted for it, `namespace` whose memory it reads and adds to."""

    by: str
    namespace: str


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    namespace: str = Field(max_length=100)


class _File(RootModel[dict[str, _Kept]]):
    pass


class Clients:
    """The clients of the lab in `folder`, as the file has them now: it is read again when it has changed.

    `own` is the lab's own namespace. Threads may share one object.
    """

    def __init__(self, folder: Path, own: str) -> None:
        self.path = folder / FILE
        self.own = own
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._by_key: dict[str, Client] = {}

    @property
    def keyed(self) -> bool:
        """Whether everybody needs a key. Raises BadConfig if the file cannot be read."""
        return self._known() is not None

    def who(self, key: str) -> Client | None:
        """The client that has this key; where nobody needs one, whoever asks. None: nobody who may."""
        known = self._known()
        return Client(chatting("local"), self.own) if known is None else known.get(_hashed(key))

    def create(self, name: str) -> tuple[Client, str]:
        """Make a client, or a new key for one: the old one is then worth nothing. The key itself is kept nowhere.

        Raises AgentLabError for a name that cannot be one, BadConfig if the file cannot be read.
        """
        if not re.fullmatch(NAME, name):
            raise AgentLabError(
                "--client takes a name of at most 40 small letters, digits, '-' and '_', such as anna: it is a part of "
                "its namespace's name."
            )
        kept = self._read()
        namespace = kept[name].namespace if name in kept else f"chat/{name}"
        key = f"al-{secrets.token_urlsafe(KEY_BYTES)}"
        kept[name] = _Kept(key=f"sha256:{_hashed(key)}", namespace=namespace)
        parts = [f'[{one}]\nkey = "{its.key}"\nnamespace = {_toml(its.namespace)}\n' for one, its in kept.items()]
        scratch = self.path.with_suffix(".tmp")
        scratch.unlink(missing_ok=True)
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write("\n".join([ABOUT, *parts]))
        scratch.replace(self.path)
        return Client(chatting(name), namespace), key

    def _known(self) -> dict[str, Client] | None:
        """The clients by the hashes of their keys; None without a file."""
        with self._lock:
            try:
                found = self.path.stat()
            except FileNotFoundError:
                self._seen = None
                return None
            seen = found.st_mtime_ns, found.st_ino
            if seen != self._seen:
                named = self._read().items()
                self._by_key = {
                    its.key.removeprefix("sha256:"): Client(chatting(one), its.namespace) for one, its in named
                }
                self._seen = seen
            return self._by_key

    def _read(self) -> dict[str, _Kept]:
        if not self.path.exists():
            return {}
        kept = parse(_File, read_toml(self.path), self.path).root
        for name in kept:
            if not re.fullmatch(NAME, name):
                raise AgentLabError(f"{self.path}: {name!r} is no name of a client; correct it.")
        return kept


def _hashed(key: str) -> str:
    # Keys are drawn at random and long: nothing is gained by a slow hash.
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def _toml(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(f"\\u{ord(one):04x}" if ord(one) < 32 or ord(one) == 127 else one for one in escaped) + '"'
