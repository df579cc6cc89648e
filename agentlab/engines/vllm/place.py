"""Where a model is asked: a server that was named, or one of one's own that is started when it is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from agentlab.engines.base import Adapter
from agentlab.engines.vllm import adapters
from agentlab.engines.vllm.client import COMPLETIONS, Client, nonsense
from agentlab.engines.vllm.scoring import Batch
from agentlab.engines.vllm.server import LOGPROBS, OwnServer
from agentlab.engines.waiting import Waiters, heard
from agentlab.errors import ServerFailed, ServerUnavailable

REFUSED, NOT_FOUND = 400, 404

FEWER = 20
"""Log-probabilities that a server gives at once where nobody set `--max-logprobs`."""


@dataclass
class Link:
    """A server as it was met: the name of its base, how long a text may be there, how many log-probabilities it gives
    at once, and the adapters that were proved on it."""

    client: Client
    base: str
    longest: int | None
    logprobs: int
    adapters: dict[str, Path] = field(default_factory=dict)


class Place:
    """One server of the model `name` in `folder`; `own` is None where it runs already, and `connect` meets it.

    It has the base, with adapters as requests beside it, or the base with `own.adapter` merged into it. It may be used
    by many threads at once; whoever waits for it is one of `waiters`.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        tokenize: Callable[[str], list[int]],
        waiters: Waiters,
        connect: Callable[[], Client],
        own: OwnServer | None = None,
    ) -> None:
        self.name, self.folder, self.tokenize, self.own = name, folder, tokenize, own
        self.asking = 0  # how many ask it now, by whoever counts them
        self._waiters, self._connect = waiters, connect
        self._lock = threading.RLock()
        self._client: Client | None = None
        self._link: Link | None = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One thread at a time meets the server. Raises what those are given up by who wait for their turn."""
        given_up = self._waiters.given_up
        with self._lock:
            heard(given_up)
            yield

    def ready(self) -> Link:
        """The server as it is met; started where it is one's own and does not run."""
        with self._alone():
            if self.own is not None and not self.own.running:
                self.end()
            if self._client is None:
                self._client = self._connect()
            if self._link is None:
                self._link = self._met(self._client)
            return self._link

    def _met(self, client: Client) -> Link:
        """Raises ServerUnavailable if it serves another model, or reads texts otherwise than is read here."""
        try:
            served = [model for model in client.get("/v1/models")["data"] if not model.get("parent")]
            ids = {str(model["id"]): model for model in served}
        except (LookupError, TypeError, AttributeError) as error:
            raise nonsense("its list of models is none") from error
        base = next((one for one, model in ids.items() if self._is_mine(one, str(model.get("root") or ""))), "")
        if not base:
            raise ServerUnavailable(
                f"The server at {client.url} serves {', '.join(ids) or 'nothing'}, and the lab's base model is "
                f"{self.name}; start it with `--served-model-name {self.name}`."
            )
        text = "You see a door.\n> open door\n"
        asked = {"model": base, "prompt": text, "add_special_tokens": False}
        if client.post("/tokenize", asked).get("tokens") != self.tokenize(text):
            raise ServerUnavailable(
                f"The server at {client.url} reads texts otherwise than the tokenizer of {self.name} does: it serves "
                "another model under that name; start it with the lab's."
            )
        return Link(client, base, ids[base].get("max_model_len"), self._logprobs(client, base))

    def _is_mine(self, served: str, root: str) -> bool:
        """Whether what is served by a name, from a folder or a repository, is the lab's base by name."""
        if {served, root} & {self.name, str(self.folder), Path(self.name).name, self.folder.name}:
            return True
        if Path(self.name).is_absolute():  # two folders may end alike
            return False
        # A folder there may be called as the model is at a hub; who else has one of that name at a hub has another.
        return any(
            Path(there).name == Path(self.name).name and ("/" not in self.name or Path(there).is_absolute())
            for there in (served, root)
        )

    def _logprobs(self, client: Client, base: str) -> int:
        """How many tokens a request may have the log-probabilities of. Raises ServerUnavailable if it gives none."""
        if self.own is not None:
            return LOGPROBS
        for most in (LOGPROBS, FEWER):
            try:
                client.post(COMPLETIONS, {"model": base, **Batch(None, [0], [[0]], set(range(most))).body()})
                return most
            except ServerFailed as failure:
                if failure.status != REFUSED:
                    raise
                reason = failure.reason
        raise ServerUnavailable(
            f"The server at {client.url} gives no log-probabilities of tokens that are named ({reason}), by which "
            "commands are scored; vLLM 0.32 or newer does."
        )

    def served(self, link: Link, adapter: Adapter | None, measure: adapters.Measure) -> str:
        """The name by which the server knows whoever is asked; an adapter is proved by `measure` first.

        Raises BadAdapter or CanaryFailed (trainers.errors) if it is not what it is taken for, ServerFailed.
        """
        if adapter is None:
            return link.base
        merged = self.own is not None and self.own.adapter is not None
        with self._alone():
            if link.adapters.get(adapter.id) != adapter.folder:
                if merged:
                    adapters.prove(adapter, link.base, None, measure)
                else:
                    adapters.load(link.client, adapter, own=self.own is not None)
                    adapters.prove(adapter, adapter.id, link.base, measure)
                link.adapters[adapter.id] = adapter.folder
        return link.base if merged else adapter.id

    def lost(self, link: Link, failure: ServerFailed) -> None:
        """Meet the server anew before it is asked again, where it may be another; one's own that is not well is ended.

        Who is still being answered by one that is well goes on. One that was silent for too long is not well, whatever
        it says of its health: its engine may hang behind a front that answers.
        """
        if failure.status is not None and failure.status < 500 and failure.status != NOT_FOUND:
            return
        with self._lock:
            if self._link is not link:
                return
            self._link = None
            if self.own is not None and (failure.hangs or not (self.own.running and link.client.healthy())):
                self.end()

    def end(self) -> None:
        """End the connections, and a server of one's own. It can be asked again."""
        with self._lock:
            client, self._client, self._link = self._client, None, None
            if client is not None:
                client.close()
            if self.own is not None:
                self.own.stop()

    def make_room(self) -> None:
        """End a server of one's own that leaves no room to train on its GPU."""
        with self._lock:
            if self.own is not None and self.own.gives_way:
                self.end()


def named(
    url: str, name: str, folder: Path, tokenize: Callable[[str], list[int]], waiters: Waiters, how: dict[str, Any]
) -> Place:
    """That of a server which runs already; `how` is what its client is made by besides.

    Raises ServerUnavailable if it is not there, or serves another model.
    """
    place = Place(name, folder, tokenize, waiters, partial(Client, url, waiters=waiters, **how))
    try:
        place.ready()
    except ServerFailed as failure:
        place.end()
        raise ServerUnavailable(
            f"No vLLM server can be asked at {url} ({failure.reason}); start one there, or go without --server."
        ) from failure
    except BaseException:
        place.end()
        raise
    return place
