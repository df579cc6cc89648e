"""The local engine: a Hugging Face causal language model, scored through a token tree."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from agentlab.engines.adapted import AdaptedModels
from agentlab.engines.answering import answer
from agentlab.engines.base import Adapter, ScoreRequest, Scores, Turn, TurnRequest, WriteRequest, Writing
from agentlab.engines.batching import Batcher
from agentlab.engines.cached import CachedConversation
from agentlab.engines.conversation import PromptSetting, resolved
from agentlab.engines.decoding import Decoding, decoded
from agentlab.engines.dropout import dropped
from agentlab.engines.heaps import share_one_heap
from agentlab.engines.passes import Passes
from agentlab.engines.proof import prove
from agentlab.engines.scoring import Scoring, scoring
from agentlab.engines.slots import Slot
from agentlab.engines.token_engine import TokenEngine
from agentlab.engines.writing import Written, write_turn
from agentlab.errors import ModelTooLarge
from memory.prompts import Prompting
from memory.records import Usage
from trainers.training import Canary, ran_out

Request = TypeVar("Request", TurnRequest, WriteRequest)
Answer = TypeVar("Answer")


def best_dtype(device: str) -> torch.dtype:
    """bfloat16 where the processor computes in it, float32 elsewhere (bf16 is emulated slowly on older CPUs)."""
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return torch.bfloat16 if supported else torch.float32


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    return dtype if isinstance(dtype, torch.dtype) else {"bfloat16": torch.bfloat16, "float32": torch.float32}[dtype]


class TransformersEngine(TokenEngine):
    """Scores all admissible commands of a step in one forward pass over the new tokens only.

    `folder` holds a transformers model and its tokenizer. `context` bounds the tokens of a conversation (default: the
    model's own window, at most 2,048). `prompt` is how it reads a game: as a `transcript`, as a `chat` in its own
    template, or by `auto` as a chat where whoever plays asks for one. Adapters share the base's weights.

    With `gather` the requests of episodes that play beside each other are read in one pass. The last bits of a score
    then depend on who plays beside, so that an interrupted run no longer equals an unbroken one to the byte: by default
    it is done on an accelerator, where it pays most.

    Raises BadModel if the folder is not whole, UnsupportedModel if the model cannot be scored through a token tree,
    ModelTooLarge where memory runs out over it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "",
        device: str | None = None,
        dtype: torch.dtype | str = "auto",
        context: int | None = None,
        threads: int | None = None,
        prompt: PromptSetting = "auto",
        gather: bool | None = None,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        share_one_heap()
        super().__init__(folder, name=name, context=context, prompt=prompt)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = best_dtype(self.device) if dtype == "auto" else _dtype(dtype)
        self._lock = threading.RLock()
        with _fitting(self.name, self.device):
            self._models = AdaptedModels(self.folder, self.device, self.dtype)
        self._passes = Passes(self._models.base, self.device, self.dtype)
        with _fitting(self.name, self.device):
            prove(self, self._passes, self._models.base)
        if self.device != "cpu" if gather is None else gather:
            self.batcher = Batcher()

    # -- models and adapters ---------------------------------------------------------------------------------------

    def weights(self, adapter: Adapter | None = None) -> Any:
        """The weights that play: the base, or the base with an adapter on it, which is loaded if need be."""
        with self._lock:
            if adapter is None:
                return self._models.base
            if adapter.strength is not None:
                return self._models.steered(adapter.id, adapter.folder, adapter.strength)
            return self._models.model(adapter.id, adapter.folder, partial(self._prove, adapter))

    def load(self, adapter: Adapter) -> None:
        """Have an adapter ready. Its canary must show, whenever it is loaded, that it is on.

        Raises BadAdapter, CanaryFailed (trainers.errors) if the weights in its folder do not score as was recorded,
        ModelTooLarge where memory runs out over it.
        """
        with _fitting(f"{self.name} with {adapter.id}", self.device):
            self.weights(adapter)

    def _prove(self, adapter: Adapter, model: Any) -> None:
        recorded = Canary.load(adapter.folder / "canary.json")
        recorded.check(self._logprob(model, recorded.token_ids, recorded.spans))

    def logprob(
        self, token_ids: Sequence[int], spans: Sequence[tuple[int, int]], adapter: Adapter | None = None
    ) -> float:
        """Summed log-probability of the tokens in `spans` (half-open, in `token_ids`), given all before them."""
        return self._logprob(self.weights(adapter), token_ids, spans)

    def _logprob(self, model: Any, token_ids: Sequence[int], spans: Sequence[tuple[int, int]]) -> float:
        with self._lock, torch.inference_mode():
            ids = torch.tensor([list(token_ids)], device=self.device)
            at = [place for start, end in spans for place in range(start, end)]
            chosen = torch.tensor(at, dtype=torch.long, device=self.device)
            found = self._passes.logits(model, chosen - 1, input_ids=ids)
            log_probabilities = torch.log_softmax(found, dim=-1)
            return float(log_probabilities.gather(1, ids[0, chosen, None]).double().sum())

    def logprob_with_dropout(
        self, token_ids: Sequence[int], spans: Sequence[tuple[int, int]], *, probability: float, seed: int
    ) -> float:
        """`logprob` of the base, by a pass with dropout on what each layer hands on (`agentlab.engines.dropout`)."""
        with self._lock, dropped(self._models.base, probability, seed):
            return self.logprob(token_ids, spans)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """The base, which nobody else asks meanwhile."""
        with self._lock:
            yield self._models.base

    # -- scoring ---------------------------------------------------------------------------------------------------

    def conversation(self, goal: str, hints: str = "", prompting: Prompting | None = None) -> CachedConversation:
        """Start one episode. Raises ContextExceeded if its head leaves no room for a game."""
        how = resolved(self.prompt, self.tokenize, prompting)
        return CachedConversation(self, self._passes.slots, goal, hints, how)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """Log-probability of each command and its line end, all requests in one forward pass or, of very many commands,
        in a few; where only the best of very many is asked for, of those that are read in the search for it.

        Raises ContextExceeded if a command is longer than what is left of the context.
        """
        with self._lock, torch.inference_mode():
            scorings = [scoring(request, self._passes.most) for request in requests]
            while waiting := [one for one in scorings if one.waits]:
                adapter, now = waiting[0].adapter, dict[int, Scoring]()
                for one in waiting:
                    if one.adapter == adapter:  # and a conversation has one slot
                        now.setdefault(id(one.conversation), one)
                chosen = list(now.values())
                readings = [one.reading() for one in chosen]
                for at, logprobs in self._passes.read(self.weights(adapter), readings):
                    chosen[at].take(logprobs)
            return [Scores(one.scores, Usage(input_tokens=one.read)) for one in scorings]

    # -- turns and texts -------------------------------------------------------------------------------------------

    def write_turns(self, requests: Sequence[TurnRequest]) -> list[Turn]:
        """The agent's next turns, each held to its admissible commands (`agentlab.engines.writing`).

        Raises ContextExceeded if what is to be written does not fit into what is left of the context.
        """
        with self._lock, torch.inference_mode():
            return self._each(requests, self._turn, lambda request: id(request.conversation))

    def write(self, requests: Sequence[WriteRequest]) -> list[Writing]:
        """Answers to messages of a user, through the tokenizer's chat template where it has one.

        The tags of thoughts stay, also that which the template has opened, so that `memory.text` can tell them.
        """
        with self._lock, torch.inference_mode():
            return self._each(requests, self._answer, id)

    def _each(
        self,
        requests: Sequence[Request],
        begin: Callable[[Request], tuple[Slot, Decoding[Answer]]],
        of: Callable[[Request], int],
    ) -> list[Answer]:
        """What is written for each request: beside each other those of one adapter and of different conversations."""
        left, answers = dict(enumerate(requests)), dict[int, Answer]()
        while left:
            adapter, now = next(iter(left.values())).adapter, dict[int, int]()
            for at, request in left.items():
                if request.adapter == adapter:
                    now.setdefault(of(request), at)
            model = self.weights(adapter)
            texts = [begin(left.pop(at)) for at in now.values()]
            answers |= zip(now.values(), decoded(self._passes, model, texts), strict=True)
        return [answers[at] for at in range(len(requests))]

    def _turn(self, request: TurnRequest) -> tuple[Slot, Decoding[Turn]]:
        conversation = request.conversation
        assert isinstance(conversation, CachedConversation), "made by `conversation`"
        extra = conversation.room_for_turn(request)
        slot = conversation.open_cache(request.adapter)

        def written() -> Decoding[Turn]:
            unread = [*conversation.pending, *extra]
            usage = Usage(input_tokens=len(unread))
            text = Written(unread, request.temperature, torch.Generator().manual_seed(request.seed))
            turn = yield from write_turn(request, text, self.tokenizer, self.ends)
            if text.ahead is not None:
                conversation.read()
            return replace(turn, usage=turn.usage + usage)

        return slot, written()

    def _answer(self, request: WriteRequest) -> tuple[Slot, Decoding[Writing]]:
        slot = self._passes.slots.lend()

        def written() -> Decoding[Writing]:
            try:
                return (yield from answer(request, self.tokenizer, self.tokenize, self.context, self.ends))
            finally:
                slot.close()

        return slot, written()


@contextmanager
def _fitting(name: str, device: str) -> Iterator[None]:
    """Say in one line that a model does not fit where memory runs out."""
    try:
        yield
    except Exception as error:
        if not ran_out(error):
            raise
        raise ModelTooLarge(
            f"{name} does not fit into the memory of {device} that is free; end what else uses it, set `dtype` to "
            "bfloat16 or `context` lower in lab.toml, or choose a smaller model."
        ) from error
