"""The local engine: a Hugging Face causal language model, scored through a token tree."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from agentlab.engines.base import Conversation
from agentlab.engines.dropout import dropped
from agentlab.errors import UnsupportedModel
from memory import rendering
from trainers.tree import TokenTree


def best_dtype(device: str) -> torch.dtype:
    """bfloat16 where the processor computes in it, float32 elsewhere (bf16 is emulated slowly on older CPUs)."""
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return torch.bfloat16 if supported else torch.float32


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    return dtype if isinstance(dtype, torch.dtype) else {"bfloat16": torch.bfloat16, "float32": torch.float32}[dtype]


@contextmanager
def _quiet() -> Iterator[None]:
    """Loading takes a moment: a bar of its own would tear the progress display of whoever is working."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # peft reads an attribute that transformers is about to rename.
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if shown:
            logging.enable_progress_bar()


class CachedConversation(Conversation):
    """A transcript with its tokens and its key/value cache.

    `pending` are tokens that the model has not seen yet; `turn_starts` are the borders at which old turns are dropped
    when the context window is full. The head (task and memory block) is never dropped.
    """

    def __init__(self, engine: TransformersEngine, goal: str, hints: str) -> None:
        super().__init__(goal, hints)
        self.engine = engine
        self.token_ids = engine.tokenize(self.text)
        self.head_length = len(self.token_ids)
        self.turn_starts: list[int] = []
        self.cache: Any = None
        self.model: Any = None  # the one that filled the cache
        self.seen: list[int] = []
        self.pending: list[int] = list(self.token_ids)

    def observe(self, observation: str) -> None:
        self.turn_starts.append(len(self.token_ids))
        super().observe(observation)
        self._append(self.engine.tokenize(rendering.turn(observation)))

    def act(self, command: str) -> None:
        super().act(command)
        start = len(self.token_ids)
        self._append(self.engine.command_tokens(command))
        self.action_spans.append((start, len(self.token_ids)))

    def _append(self, ids: list[int]) -> None:
        self.token_ids.extend(ids)
        self.pending.extend(ids)

    def make_room(self, needed: int, limit: int) -> None:
        """Drop the oldest turns until `needed` more tokens fit into `limit`; a cache that lost turns is rebuilt.

        Half of the window is freed at once, so that a long episode does not pay for a rebuild at every step.
        """
        if len(self.seen) + len(self.pending) + needed <= limit or not self.turn_starts:
            return
        from trainers.examples import drop_oldest

        borders = [*self.turn_starts, len(self.token_ids)]
        lengths = [after - before for before, after in pairwise(borders)]
        dropped = drop_oldest(lengths, self.head_length, min(limit // 2, limit - needed))
        kept = self.token_ids[self.turn_starts[dropped] :] if dropped else self.token_ids[self.head_length :]
        self.cache, self.seen = None, []
        self.pending = [*self.token_ids[: self.head_length], *kept]

    def close(self) -> None:
        self.cache = self.model = None


class TransformersEngine:
    """Scores all admissible commands of a step in one forward pass over the new tokens only.

    `folder` holds a transformers model and its tokenizer. `context` bounds the tokens of a conversation (default: the
    model's own window, at most 2,048). Adapters are merged into a copy of the base in float32; the last two are
    kept ready beside the base, so that swapping costs nothing on the way.
    """

    can_write = True

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "",
        device: str | None = None,
        dtype: torch.dtype | str = "auto",
        context: int | None = None,
        threads: int | None = None,
    ) -> None:
        from transformers import AutoConfig, AutoTokenizer

        if threads:
            torch.set_num_threads(threads)
        self.folder = Path(folder)
        self.name = name or self.folder.name
        self.adapter: str | None = None
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = best_dtype(self.device) if dtype == "auto" else _dtype(dtype)
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        window = int(getattr(AutoConfig.from_pretrained(self.folder), "max_position_embeddings", 2048))
        self.context = min(context or 2048, window)
        self._models: OrderedDict[str | None, Any] = OrderedDict()
        self._lock = threading.RLock()
        self._tokenizing = threading.Lock()
        self._tokens: dict[str, list[int]] = {}
        self.model = self._models[None] = self._load(None)
        self._prove_tree()

    # -- models and adapters ---------------------------------------------------------------------------------------

    def _load(self, adapter: Path | None) -> Any:
        from transformers import AutoModelForCausalLM

        with _quiet():
            model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32, attn_implementation="sdpa")
            if adapter is not None:
                from peft import PeftModel

                model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        return model.to(self.device, self.dtype).eval().requires_grad_(False)

    def _prove_tree(self) -> None:
        """Raise UnsupportedModel unless a tree pass scores as a plain pass does.

        Models with sliding windows, recurrent states or scaled logits would score something else without saying so.
        """
        conversation = self.conversation("Find the coin.")
        conversation.observe("You see a door.")
        commands = ["open door", "open the window"]
        tolerance = 0.01 if self.dtype == torch.float32 else 0.75
        try:
            for command, score in zip(commands, self.score(conversation, commands), strict=True):
                ids = [*conversation.token_ids, *self.command_tokens(command)]
                plain = self.logprob(ids, [(len(conversation.token_ids), len(ids))])
                if not abs(score - plain) <= tolerance:
                    raise ValueError(f"{score:.2f} instead of {plain:.2f}")
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UnsupportedModel(
                f"{self.name} cannot be scored through a token tree ({reason}); use a decoder-only model with full "
                "attention, such as those of the Llama family."
            ) from error

    def use(self, adapter: str | None, folder: Path | None = None) -> None:
        """Swap to `adapter`. The first time, its canary must show that it is on, or the base keeps serving.

        Raises CanaryFailed (trainers.errors) if the weights in `folder` do not score as its trainer recorded.
        """
        with self._lock:
            if adapter not in self._models:
                if folder is None:
                    raise ValueError(f"adapter {adapter!r} is not loaded yet: its folder is needed")
                model = self._load(folder)
                self._prove(model, folder)
                self._models[adapter] = model
                for name in list(self._models):
                    if len(self._models) > 3 and name not in (None, adapter, self.adapter):
                        del self._models[name]
            self._models.move_to_end(adapter)
            self.model, self.adapter = self._models[adapter], adapter

    def _prove(self, model: Any, folder: Path) -> None:
        from trainers import canary

        recorded = canary.load(folder / "canary.json")
        recorded.check(self.logprob(recorded.token_ids, recorded.spans, model))

    def logprob(self, token_ids: Sequence[int], spans: Sequence[tuple[int, int]], model: Any = None) -> float:
        """Summed log-probability of the tokens in `spans` (half-open, in `token_ids`), given all before them."""
        with self._lock, torch.inference_mode():
            ids = torch.tensor([list(token_ids)], device=self.device)
            log_probabilities = torch.log_softmax((model or self.model)(input_ids=ids).logits[0].float(), dim=-1)
            chosen = [at for start, end in spans for at in range(start, end)]
            return sum(float(log_probabilities[at - 1, token_ids[at]]) for at in chosen)

    def logprob_with_dropout(
        self, token_ids: Sequence[int], spans: Sequence[tuple[int, int]], *, probability: float, seed: int
    ) -> float:
        """`logprob`, by a pass with dropout on what each decoder layer hands on: see `agentlab.engines.dropout`."""
        with self._lock, dropped(self.model, probability, seed):
            return self.logprob(token_ids, spans)

    # -- tokens ----------------------------------------------------------------------------------------------------

    def tokenize(self, text: str) -> list[int]:
        """Token ids of one segment of a transcript, by itself, without special tokens.

        One that is written out in the text, as a game may do, is text like any other.
        """
        with self._tokenizing:  # the tokenizer remembers how it was asked
            return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    def command_tokens(self, command: str) -> list[int]:
        """Token ids of a command as an action: its words, then its line end as a segment of its own."""
        ids = self._tokens.get(command)
        if ids is None:
            ids = [*self.tokenize(rendering.action(command)), *self.tokenize(rendering.LINE_END)]
            self._tokens[command] = ids
        return ids

    # -- scoring ---------------------------------------------------------------------------------------------------

    def conversation(self, goal: str, hints: str = "") -> CachedConversation:
        return CachedConversation(self, goal, hints)

    def score(self, conversation: Conversation, candidates: Sequence[str]) -> list[float]:
        """Log-probability of each candidate and its line end, all in one forward pass."""
        assert isinstance(conversation, CachedConversation)
        tree = TokenTree.of([self.command_tokens(command) for command in candidates])
        with self._lock, torch.inference_mode():
            conversation.make_room(len(tree), self.context)
            return tree.sums(self._tree_pass(conversation, tree))

    def _tree_pass(self, conversation: CachedConversation, tree: TokenTree) -> torch.Tensor:
        """Log-probabilities (1 + nodes, vocabulary), float32, at the conversation's end and at every node."""
        from transformers import DynamicCache

        if conversation.cache is None or conversation.model is not self.model:
            conversation.pending = [*conversation.seen, *conversation.pending]
            conversation.seen = []
            conversation.cache, conversation.model = DynamicCache(config=self.model.config), self.model
        elif not conversation.pending:
            # Asked again about the same moment: what follows its last token was not kept, so that token is read again.
            conversation.pending = [conversation.seen.pop()]
            conversation.cache.crop(-1)
        past, fresh, nodes = len(conversation.seen), len(conversation.pending), len(tree)
        total = past + fresh
        allowed = torch.zeros(fresh + nodes, total + nodes, dtype=torch.bool)
        allowed[:, :past] = True
        allowed[:fresh, past:total] = torch.ones(fresh, fresh, dtype=torch.bool).tril()
        allowed[fresh:, past:total] = True
        allowed[fresh:, total:] = tree.visible()
        mask = torch.zeros(allowed.shape, dtype=self.dtype).masked_fill_(~allowed, torch.finfo(self.dtype).min)
        positions = [*range(past, total), *(total + depth for depth in tree.depths)]
        hidden = self.model.base_model(
            input_ids=torch.tensor([[*conversation.pending, *tree.tokens]], device=self.device),
            attention_mask=mask[None, None].to(self.device),
            position_ids=torch.tensor([positions], device=self.device),
            past_key_values=conversation.cache,
            use_cache=True,
        ).last_hidden_state[0, fresh - 1 :]
        if nodes:
            conversation.cache.crop(-nodes)
        conversation.seen.extend(conversation.pending)
        conversation.pending = []
        return torch.log_softmax(self.model.get_output_embeddings()(hidden).float(), dim=-1)

    # -- text ------------------------------------------------------------------------------------------------------

    def generate(self, prompt: str, *, max_tokens: int = 128, temperature: float = 0.0, seed: int = 0) -> str:
        """Answer one user message, through the tokenizer's chat template where it has one."""
        if self.tokenizer.chat_template:
            messages = [{"role": "user", "content": prompt}]
            text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        else:
            text = prompt
        with self._tokenizing:
            ids = self.tokenizer(str(text), add_special_tokens=False, return_tensors="pt").input_ids
        ids = ids[:, -(self.context - max_tokens) :].to(self.device)
        with self._lock, torch.inference_mode(), torch.random.fork_rng(enabled=temperature > 0):
            if temperature > 0:
                torch.manual_seed(seed)
            out = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_tokens,
                do_sample=temperature > 0,
                temperature=temperature or None,
                top_p=None,
                top_k=None,
                pad_token_id=self.tokenizer.pad_token_id or self.tokenizer.eos_token_id or 0,
            )
        return str(self.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()
