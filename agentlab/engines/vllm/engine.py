"""The served engine: a model on a vLLM server, one of its own or one that runs already, asked by token ids only.

What a model reads is made here, by the tokenizer in its folder, as for a local engine: so what was played is what is
trained, and commands have the scores that a local engine gives them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from agentlab.engines.answering import opened, said
from agentlab.engines.base import Adapter, ScoreRequest, Scores, Turn, TurnRequest, WriteRequest, Writing
from agentlab.engines.beside import beside
from agentlab.engines.conversation import PromptSetting, TokenConversation, resolved
from agentlab.engines.token_engine import TokenEngine
from agentlab.engines.vllm import adapters
from agentlab.engines.vllm.client import AT_ONCE, Client, nonsense
from agentlab.engines.vllm.link import Link
from agentlab.engines.vllm.scoring import Batch, Node, Ranking, batches, finite
from agentlab.engines.vllm.server import LOGPROBS, OwnServer
from agentlab.engines.vllm.turns import Line, write_turns
from agentlab.engines.waiting import Waiters, heard
from agentlab.errors import ServerFailed, ServerUnavailable
from memory.prompts import Prompting
from memory.records import Usage

REFUSED, NOT_FOUND = 400, 404

PLAIN = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Sampling from all tokens by what the model gives them, whatever its folder recommends."""

FEWER = 20
"""Log-probabilities that a server gives at once where nobody set `--max-logprobs`."""


class VllmEngine(TokenEngine):
    """Plays with the model in `folder` as a vLLM server serves it.

    `server` is the URL of one that runs already; without it one is started when it is first needed, with its output in
    the file `log`, and again when it has died; `close` ends it, and so does the end of this program, whatever it ends
    by. Requests of several threads are answered side by side. `seconds` is how long the server may be silent.

    What fails on the server raises ServerFailed. Raises BadModel or UnsupportedModel if the folder is not whole,
    MissingPackage if there is no vLLM to start, ServerUnavailable if the server that is named is not there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        log: Path,
        name: str = "",
        server: str = "",
        key: str = "",
        dtype: str = "auto",
        context: int | None = None,
        prompt: PromptSetting = "auto",
        say: Callable[[str], None] = lambda _: None,
        seconds: float = 300.0,
    ) -> None:
        super().__init__(folder, name=name, context=context, prompt=prompt)
        self.server = server
        self._lock = threading.RLock()
        self._waiters = Waiters()
        self._client: Client | None = None
        self._link: Link | None = None
        self._own: OwnServer | None = None
        self._connect: Callable[[], Client]
        if server:
            self._connect = partial(Client, server, key, seconds, self._waiters)
            try:
                self._ready()
            except ServerFailed as failure:
                raise ServerUnavailable(
                    f"No vLLM server can be asked at {server} ({failure.reason}); start one there, or go without "
                    "--server."
                ) from failure
            finally:
                if self._link is None:
                    self._end()
        else:
            # A canary may be longer than what is played.
            window = min(self.longest, max(self.context, 4096))
            self._own = OwnServer(self.folder, self.name, dtype, window, log, say, seconds, self._waiters)
            self._connect = self._own.start

    # -- the server ------------------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One thread at a time meets the server. Raises what those are given up by who wait for their turn."""
        given_up = self._waiters.given_up
        with self._lock:
            heard(given_up)
            yield

    def _ready(self) -> Link:
        """The server as it is met; started where it is one's own and does not run."""
        with self._alone():
            if self._own is not None and not self._own.running:
                self._end()
            if self._client is None:
                self._client = self._connect()
            if self._link is None:
                base = self._base(self._client)
                weights = self._own.weights(self._client) if self._own else None
                self._link = Link(self._client, base, self._logprobs(self._client, base), weights)
            return self._link

    def _base(self, client: Client) -> str:
        """The name by which the server knows the base.

        Raises ServerUnavailable if it serves another model, or reads texts otherwise than the tokenizer here does.
        """
        try:
            served = [model for model in client.get("/v1/models")["data"] if not model.get("parent")]
            ids = {str(model["id"]): model for model in served}
        except (LookupError, TypeError, AttributeError) as error:
            raise nonsense("its list of models is none") from error
        mine = {self.name, str(self.folder), self.folder.name}
        base = next(
            (one for one, model in ids.items() if {one, str(root := model.get("root", "")), Path(root).name} & mine), ""
        )
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
        self.context = min(self.context, int(ids[base].get("max_model_len") or self.context))
        return base

    def _logprobs(self, client: Client, base: str) -> int:
        """How many tokens a request may have the log-probabilities of. Raises ServerUnavailable if it gives none."""
        if self._own is not None:
            return LOGPROBS
        for most in (LOGPROBS, FEWER):
            try:
                client.post("/v1/completions", {"model": base, **Batch(None, [0], [[0]], set(range(most))).body()})
                return most
            except ServerFailed as failure:
                if failure.status != REFUSED:
                    raise
                reason = failure.reason
        raise ServerUnavailable(
            f"The server at {client.url} gives no log-probabilities of tokens that are named ({reason}), by which "
            "commands are scored; vLLM 0.32 or newer does."
        )

    def _lost(self, link: Link, failure: ServerFailed) -> None:
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
            if self._own is not None and (failure.hangs or not (self._own.running and link.client.healthy())):
                self._end()

    def _end(self) -> None:
        """End the connections, and a server of one's own."""
        client, self._client, self._link = self._client, None, None
        if client is not None:
            client.close()
        if self._own is not None:
            self._own.stop()

    def _complete(self, adapter: Adapter | None, body: dict[str, Any]) -> dict[str, Any]:
        """What the server answers to a completion by the base or an adapter. Raises ServerFailed."""
        for again in (True, False):
            link = self._ready()
            self._proven(link, adapter)
            try:
                with link.asking(adapter) as whom:
                    return link.client.post("/v1/completions", {**whom, **body})
            except ServerFailed as failure:
                self._lost(link, failure)
                # A server that was started anew by somebody knows no adapter.
                if failure.status != NOT_FOUND or not again:
                    raise
        raise AssertionError

    def give_up(self, error: BaseException) -> None:
        """Whoever waits for the server, or for its start, gets `error` now."""
        self._waiters.give_up(error)

    def close(self) -> None:
        """End a server of one's own, and the connections. It can be asked again."""
        with self._lock:
            self._end()

    def make_room(self) -> None:
        """End a server of one's own that leaves no room to train on its GPU; the next question starts it again."""
        with self._lock:
            if self._own is not None and self._own.gives_way:
                self._end()

    # -- adapters --------------------------------------------------------------------------------------------------

    def load(self, adapter: Adapter) -> None:
        """Have the server load an adapter, and prove by its canary that it is the one, and that the base is its own.

        Raises BadAdapter or CanaryFailed (trainers.errors) if it is not, ServerFailed if the server does not answer.
        """
        self._proven(self._ready(), adapter)

    def _proven(self, link: Link, adapter: Adapter | None) -> None:
        """Have the server know whoever is asked."""
        if adapter is None:
            return
        with self._alone():
            if link.adapters.get(adapter.id) != adapter.folder:
                try:
                    if link.weights is None:
                        adapters.load(link.client, adapter, own=self._own is not None)
                    adapters.prove(adapter, partial(self._logprob, link))
                except ServerFailed as failure:
                    self._lost(link, failure)
                    raise
                link.adapters[adapter.id] = adapter.folder

    def logprob(
        self, token_ids: Sequence[int], spans: Sequence[tuple[int, int]], adapter: Adapter | None = None
    ) -> float:
        """Summed log-probability of the tokens in `spans` (half-open, in `token_ids`), given all before them."""
        link = self._ready()
        self._proven(link, adapter)
        return self._logprob(link, adapter, token_ids, spans)

    def _logprob(
        self, link: Link, adapter: Adapter | None, token_ids: Sequence[int], spans: Sequence[tuple[int, int]]
    ) -> float:
        *before, last = token_ids
        body = {
            "prompt": before,
            "max_tokens": 1,
            "temperature": 0,
            "prompt_logprobs": 0,
            "logprobs": 1,
            "logprob_token_ids": [last],
            "return_tokens_as_token_ids": True,
        }
        try:
            with link.asking(adapter) as whom:
                (choice,) = link.client.post("/v1/completions", {**whom, **body})["choices"]
            given = [{}, *choice["prompt_logprobs"][1:], choice["logprobs"]["top_logprobs"][0]]
            places = [place for start, end in spans for place in range(start, end)]
            final = len(token_ids) - 1
            return sum(
                finite(given[at][f"token_id:{last}"] if at == final else given[at][str(token_ids[at])]["logprob"])
                for at in places
            )
        except ServerFailed as failure:
            self._lost(link, failure)
            raise
        except (LookupError, TypeError, ValueError) as error:
            raise nonsense(f"no log-probabilities of a text: {type(error).__name__} {error}") from error

    # -- conversations ---------------------------------------------------------------------------------------------

    def conversation(self, goal: str, hints: str = "", prompting: Prompting | None = None) -> TokenConversation:
        """Start one episode, as this engine is set to read it. Raises ContextExceeded if task and hints fill the
        context."""
        return TokenConversation(self, goal, hints, resolved(self.prompt, self.tokenize, prompting))

    # -- what is asked of it ---------------------------------------------------------------------------------------

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """The scores of each request: the log-probabilities of its commands, each with its line end.

        Raises ContextExceeded if a command is longer than what is left of the context.
        """
        rankings = [Ranking.of(request) for request in requests]
        found = iter(self._distributions([node for ranking in rankings for node in ranking.nodes]))
        return [ranking.scores([next(found) for _ in ranking.nodes]) for ranking in rankings]

    def _distributions(self, nodes: Sequence[Node]) -> list[dict[int, float]]:
        """The log-probabilities of its children at each node."""
        if not nodes:
            return []

        def ask(batch: Batch) -> list[tuple[int, dict[int, float]]]:
            return list(batch.read(self._complete(batch.adapter, batch.body())))

        known: list[dict[int, float]] = [{} for _ in nodes]
        for at, logprobs in chain.from_iterable(beside(ask, batches(nodes, self._ready().logprobs), AT_ONCE)):
            known[at] |= {token: logprob for token, logprob in logprobs.items() if token in nodes[at].children}
        return known

    def write_turns(self, requests: Sequence[TurnRequest]) -> list[Turn]:
        """The agent's next turns, each held to its admissible commands (`agentlab.engines.vllm.turns`).

        Raises ContextExceeded if what is to be written does not fit into what is left of the context.
        """
        return write_turns(requests, self.tokenizer, self.ends, self._lines, self._distributions)

    def _lines(self, lines: Sequence[Line]) -> list[tuple[list[int], list[float]]]:
        return beside(self._line, lines, AT_ONCE)

    def _line(self, line: Line) -> tuple[list[int], list[float]]:
        if line.most == 0:
            return [], []
        tokens, logprobs = self._written(
            line.adapter,
            line.token_ids,
            line.most,
            line.temperature,
            line.seed,
            stop="\n",
            stop_token_ids=sorted(line.ends),
            ignore_eos=True,  # what ends a line is among its ends
        )
        ended = (at for at, token in enumerate(tokens) if token in line.ends or "\n" in self.tokenizer.decode([token]))
        end = next(ended, len(tokens))
        return tokens[:end], logprobs[:end]

    def write(self, requests: Sequence[WriteRequest]) -> list[Writing]:
        """Answers to messages of a user, through the tokenizer's chat template where it has one."""
        return beside(self._write, requests, AT_ONCE)

    def _write(self, request: WriteRequest) -> Writing:
        ids, most, thought = opened(request, self.tokenizer, self.tokenize, self.context)
        tokens, logprobs = self._written(
            request.adapter, ids, most, request.temperature, request.seed, stop_token_ids=sorted(self.ends)
        )
        usage = Usage(input_tokens=len(ids), output_tokens=len(tokens))
        return Writing((thought + said(self.tokenizer, tokens)).strip(), tokens, logprobs, usage)

    def _written(
        self, adapter: Adapter | None, ids: Sequence[int], most: int, temperature: float, seed: int, **asked: Any
    ) -> tuple[list[int], list[float]]:
        """What the server writes behind some tokens: its tokens and their log-probabilities."""
        body = {"prompt": list(ids), "max_tokens": most, "temperature": temperature, "logprobs": 0, **PLAIN, **asked}
        if temperature > 0:
            body["seed"] = seed
        answer = self._complete(adapter, {**body, "return_token_ids": True})
        try:
            (choice,) = answer["choices"]
            tokens = [int(token) for token in choice["token_ids"]]
            logprobs = [finite(logprob) for logprob in choice["logprobs"]["token_logprobs"]]
            if len(tokens) != len(logprobs) or len(tokens) > most:
                raise ValueError(f"{len(logprobs)} log-probabilities of {len(tokens)} tokens, of at most {most}")
        except (LookupError, TypeError, ValueError) as error:
            raise nonsense(f"no tokens of what it wrote: {type(error).__name__} {error}") from error
        return tokens, logprobs
