"""The served engine: a model on a vLLM server, one of its own or one that runs already, asked by token ids only.

What a model reads is made here, by the tokenizer in its folder, as for a local engine: so what was played is what is
trained, and commands have the scores that a local engine gives them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from agentlab.engines.answering import opened, said
from agentlab.engines.base import Adapter, ScoreRequest, Scores, Turn, TurnRequest, WriteRequest, Writing
from agentlab.engines.beside import beside
from agentlab.engines.conversation import PromptSetting, resolved
from agentlab.engines.token_engine import TokenEngine
from agentlab.engines.vllm.client import AT_ONCE, COMPLETIONS, nonsense
from agentlab.engines.vllm.conversation import ServedConversation
from agentlab.engines.vllm.place import NOT_FOUND, Link, Place, named
from agentlab.engines.vllm.scoring import Batch, Node, Ranking, batches, finite
from agentlab.engines.vllm.server import OwnServer
from agentlab.engines.vllm.turns import Line, write_turns
from agentlab.engines.waiting import Waiters
from agentlab.errors import ServerFailed
from memory.prompts import Prompting
from memory.records import Usage

PLAIN = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Sampling from all tokens by what the model gives them, whatever its folder recommends."""

SERVERS = 3
"""Servers of one's own that go on running beside each other on a CPU, where each adapter has one."""


class VllmEngine(TokenEngine):
    """Plays with the model in `folder` as a vLLM server serves it.

    `server` is the URL of one that runs already; without it one is started when it is first needed, with its output in
    the file `log`, and again when it has died; `close` ends it, and so does the end of this program, whatever it ends
    by. On a CPU an adapter of a small model has a server of its own, with its weights merged into the base's: a LoRA
    request is computed nearly token by token there. Requests of several threads are answered side by side. `seconds` is
    how long a server may be silent.

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
        self._waiters = Waiters()
        self._lock = threading.Lock()
        self._places: OrderedDict[Adapter | None, Place] = OrderedDict()
        self._make: Callable[[Adapter | None], Place]
        self._each = False  # whether each adapter has a server of its own
        if server:
            how = {"key": key, "seconds": seconds}
            self._make = lambda _: named(server, self.name, self.folder, self.tokenize, self._waiters, how)
            with self._asked(None):
                pass
        else:
            # A canary may be longer than what is played.
            window = min(self.longest, max(self.context, 4096))
            own = OwnServer(self.folder, self.name, dtype, window, log, say, seconds, self._waiters)
            self._each = own.takes_merged

            def make(adapter: Adapter | None) -> Place:
                its = replace(own, adapter=adapter)
                return Place(self.name, self.folder, self.tokenize, self._waiters, its.start, its)

            self._make = make

    # -- servers ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _asked(self, adapter: Adapter | None) -> Iterator[tuple[Link, str]]:
        """The server for a model as it is met, started where it is one's own and does not run, and the name by which it
        knows the model; it stays as long as this is open.

        Raises BadAdapter or CanaryFailed (trainers.errors) if an adapter is not what it is taken for, ServerFailed.
        """
        place = self._place(adapter)
        try:
            link = place.ready()
            self.context = min(self.context, int(link.longest or self.context))
            try:
                yield link, place.served(link, adapter, partial(self._logprob, link))
            except ServerFailed as failure:
                place.lost(link, failure)
                raise
        finally:
            with self._lock:
                place.asking -= 1

    def _place(self, adapter: Adapter | None) -> Place:
        key = adapter if self._each else None
        with self._lock:
            if key not in self._places:
                self._places[key] = self._make(adapter)
            self._places.move_to_end(key)
            self._places[key].asking += 1
            many = len(self._places) - SERVERS
            left = [one for one, place in self._places.items() if not place.asking][: max(many, 0)]
            ended = [self._places.pop(one) for one in left]
        for place in ended:
            place.end()
        return self._places[key]

    def _complete(self, adapter: Adapter | None, body: dict[str, Any]) -> dict[str, Any]:
        """What the server answers to a completion by the base or an adapter. Raises ServerFailed."""
        for again in (True, False):
            try:
                with self._asked(adapter) as (link, model):
                    return link.client.post(COMPLETIONS, {"model": model, **body})
            except ServerFailed as failure:
                # A server that was started anew by somebody knows no adapter.
                if failure.status != NOT_FOUND or not again:
                    raise
        raise AssertionError

    def give_up(self, error: BaseException) -> None:
        """Whoever waits for the server, or for its start, gets `error` now."""
        self._waiters.give_up(error)

    def close(self) -> None:
        """End servers of one's own, and the connections. They can be asked again."""
        for place in list(self._places.values()):
            place.end()

    def make_room(self) -> None:
        """End a server of one's own that leaves no room to train on its GPU; the next question starts it again."""
        for place in list(self._places.values()):
            place.make_room()

    # -- adapters --------------------------------------------------------------------------------------------------

    def load(self, adapter: Adapter) -> None:
        """Have a server ready with an adapter, and prove by its canary that it is the one, on the lab's base.

        Raises BadAdapter or CanaryFailed (trainers.errors) if it is not, ServerFailed if the server does not answer.
        """
        with self._asked(adapter):
            pass

    def logprob(
        self, token_ids: Sequence[int], spans: Sequence[tuple[int, int]], adapter: Adapter | None = None
    ) -> float:
        """Summed log-probability of the tokens in `spans` (half-open, in `token_ids`), given all before them."""
        with self._asked(adapter) as (link, model):
            return self._logprob(link, model, token_ids, spans)

    def _logprob(self, link: Link, model: str, token_ids: Sequence[int], spans: Sequence[tuple[int, int]]) -> float:
        *before, last = token_ids
        body = {
            "model": model,
            "prompt": before,
            "max_tokens": 1,
            "temperature": 0,
            "prompt_logprobs": 0,
            "logprobs": 1,
            "logprob_token_ids": [last],
            "return_tokens_as_token_ids": True,
        }
        answer = link.client.post(COMPLETIONS, body)
        try:
            (choice,) = answer["choices"]
            given = [{}, *choice["prompt_logprobs"][1:], choice["logprobs"]["top_logprobs"][0]]
            places = [place for start, end in spans for place in range(start, end)]
            final = len(token_ids) - 1
            return sum(
                finite(given[at][f"token_id:{last}"] if at == final else given[at][str(token_ids[at])]["logprob"])
                for at in places
            )
        except (LookupError, TypeError, ValueError) as error:
            raise nonsense(f"no log-probabilities of a text: {type(error).__name__} {error}") from error

    # -- conversations ---------------------------------------------------------------------------------------------

    def conversation(self, goal: str, hints: str = "", prompting: Prompting | None = None) -> ServedConversation:
        """Start one episode, as this engine is set to read it. Raises ContextExceeded if task and hints fill the
        context."""
        return ServedConversation(self, goal, hints, resolved(self.prompt, self.tokenize, prompting))

    # -- what is asked of it ---------------------------------------------------------------------------------------

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """The scores of each request: the log-probabilities of its commands, each with its line end; where only the
        best of very many is asked for, of those that are read in the search for it.

        Raises ContextExceeded if a command is longer than what is left of the context.
        """
        rankings = [Ranking(request) for request in requests]
        while waiting := [ranking for ranking in rankings if ranking.nodes]:
            found = iter(self._distributions([node for ranking in waiting for node in ranking.nodes]))
            for ranking in waiting:
                ranking.take([next(found) for _ in ranking.nodes])
        return [ranking.scores for ranking in rankings]

    def _distributions(self, nodes: Sequence[Node]) -> list[dict[int, float]]:
        """The log-probabilities of its children at each node."""
        if not nodes:
            return []

        def ask(batch: Batch) -> list[tuple[int, dict[int, float]]]:
            return list(batch.read(self._complete(batch.adapter, batch.body())))

        known: list[dict[int, float]] = [{} for _ in nodes]
        for at, logprobs in chain.from_iterable(beside(ask, batches(nodes, self._most_logprobs(nodes)), AT_ONCE)):
            known[at] |= {token: logprob for token, logprob in logprobs.items() if token in nodes[at].children}
        return known

    def _most_logprobs(self, nodes: Sequence[Node]) -> int:
        with self._asked(nodes[0].adapter) as (link, _):
            return link.logprobs

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
        text, cut = (thought + said(self.tokenizer, tokens)).strip(), len(tokens) == most
        return Writing(text, tokens, logprobs, usage, cut and tokens[-1] not in self.ends, ids)

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
            if choice.get("finish_reason") == "abort":
                raise ValueError("it was given up there")
            if len(tokens) != len(logprobs) or len(tokens) > most:
                raise ValueError(f"{len(logprobs)} log-probabilities of {len(tokens)} tokens, of at most {most}")
        except (LookupError, TypeError, ValueError) as error:
            raise nonsense(f"no tokens of what it wrote: {type(error).__name__} {error}") from error
        return tokens, logprobs
