"""What `benchmarks/gpu.py` measures: a card, LoRA training, many episodes at once, and numbers against float32.

Models are in the shapes of real ones with random weights, which cost the same; SmolLM2 is itself where its folder is
given. Every row is a dictionary of plain values, as it is kept.
"""

from __future__ import annotations

import gc
import math
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cards import peak_of, useful_work
from scoring import commands, observation

from agentlab.engines.base import ScoreRequest
from agentlab.engines.transformers import TransformersEngine

Row = dict[str, Any]
GOAL = "Explore the house, find the coin, and put what is not in its place where it belongs."

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "SmolLM2-135M": (
        "Llama",
        {
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "vocab_size": 49152,
            "tie_word_embeddings": True,
        },
    ),
    "Qwen2.5-1.5B": (
        "Qwen2",
        {
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "vocab_size": 151936,
            "tie_word_embeddings": True,
        },
    ),
    "Qwen2.5-7B": (
        "Qwen2",
        {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
            "tie_word_embeddings": False,
        },
    ),
}
"""The families and shapes of models, as their config.json has them."""

TINY: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 2048,
}
"""What of a shape is small in a dry run."""


@dataclass(frozen=True)
class Size:
    """How much is measured: seconds of each, examples a step of training, their tokens at most, episodes at once and
    their steps, the context in tokens, the side of a matrix."""

    seconds: float = 10.0
    batch: int = 16
    longest: int = 1000
    at_once: tuple[int, ...] = (1, 16, 64, 256)
    steps: int = 8
    compared: int = 32
    context: int = 1024
    product: int = 8192
    dry: bool = False


DRY = Size(0.0, 2, 150, at_once=(1, 4), steps=1, compared=4, context=256, product=64, dry=True)


class Bench:
    """The card, and the model that is on it: one at a time, kept from part to part."""

    def __init__(self, size: Size, smollm2: Path | None = None) -> None:
        self.size, self.smollm2 = size, smollm2
        self.device = "cuda" if torch.cuda.is_available() and not size.dry else "cpu"
        if self.device == "cpu":
            torch.set_num_threads(1)
        self.closing = ExitStack()
        self._key: tuple[Any, ...] = ()
        self._held: Any = None
        self._folders: dict[str, Path] = {}

    @property
    def card(self) -> str:
        """The name of the card."""
        return str(torch.cuda.get_device_name()) if self.device == "cuda" else "CPU"

    def held(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What `make` makes, or made for this key the last time; what was held for another one is gone first."""
        if self._key != key:
            self.clear()
            self._held, self._key = make(), key
        return self._held

    def clear(self) -> None:
        """Give the card's memory back."""
        self._held, self._key = None, ()
        if self.device == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def settle(self) -> float:
        """The time, once the card has done what it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def peak_memory(self) -> float | None:
        """The most memory that was in use since `fresh_peak`, in GiB; None where it is not counted."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.device == "cuda" else None

    def fresh_peak(self) -> None:
        """Count memory anew from here."""
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    # -- models ------------------------------------------------------------------------------------------------------

    def config(self, name: str) -> Any:
        """The configuration of a model of SHAPES."""
        import transformers

        family, shape = SHAPES[name]
        if name == "SmolLM2-135M" and self.smollm2 is not None:
            return transformers.AutoConfig.from_pretrained(self.smollm2)
        usual = {"max_position_embeddings": 8192, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
        return getattr(transformers, f"{family}Config")(**usual, **(shape | (TINY if self.size.dry else {})))

    def model(self, name: str, dtype: torch.dtype, attention: str = "sdpa") -> Any:
        """A model of SHAPES, on the card: SmolLM2 itself where its folder is known, else with random weights."""
        from transformers import AutoModelForCausalLM

        asked = {"dtype": dtype, "attn_implementation": attention}
        if name == "SmolLM2-135M" and self.smollm2 is not None:
            return AutoModelForCausalLM.from_pretrained(self.smollm2, **asked).to(self.device)
        torch.manual_seed(0)
        with torch.device(self.device):
            return AutoModelForCausalLM.from_config(self.config(name), **asked)

    def folder(self, name: str) -> Path:
        """A model's folder, as an engine reads it; one with random weights is written once."""
        if name == "SmolLM2-135M" and self.smollm2 is not None:
            return self.smollm2
        if name not in self._folders:
            self.clear()
            folder = Path(self.closing.enter_context(tempfile.TemporaryDirectory()))
            self.model(name, torch.bfloat16).save_pretrained(folder)
            tokenizer().save_pretrained(folder)
            self._folders[name] = folder
        return self._folders[name]

    def engine(self, name: str, dtype: str) -> TransformersEngine:
        """The engine that plays with a model of SHAPES."""
        folder = self.folder(name)

        def made() -> TransformersEngine:
            return TransformersEngine(folder, name=name, device=self.device, dtype=dtype, context=self.size.context)

        return self.held(("engine", name, dtype), made)  # type: ignore[no-any-return]

    def title(self, name: str) -> str:
        """What a model of SHAPES is here."""
        real = name == "SmolLM2-135M" and self.smollm2 is not None
        return name if real else f"{name}, {'tiny, ' if self.size.dry else ''}random weights"


def tokenizer() -> Any:
    """A tokenizer of the words of the games: where there is no network there is none of the models' own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(0)
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TINY["vocab_size"],
        special_tokens=["</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [GOAL, *(f"{observation(rng)}\n> {command}" for _ in range(40) for command in commands(rng, 5))]
    raw.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", pad_token="</s>")


# -- the card ----------------------------------------------------------------------------------------------------------


def card(bench: Bench) -> list[Row]:
    """What a product of two large matrices in bfloat16 comes to: the share of the peak that anything can have."""
    side = bench.size.product
    a, b = (torch.randn(side, side, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    start, times = bench.settle(), 10
    for _ in range(times):
        a @ b
    return [_of_peak(bench, {"side": side}, 2 * side**3 * times / (bench.settle() - start))]


def _of_peak(bench: Bench, row: Row, work: float) -> Row:
    """The row with work done in FLOP/s, and the share of the card's peak that it is, where that is known."""
    peak = peak_of(bench.card)
    return row | {"flops": work, "share": work / peak if peak else None}


# -- training ----------------------------------------------------------------------------------------------------------


def episodes(vocabulary: int, count: int, longest: int) -> list[Any]:
    """Examples as games make them: of 100 to `longest` tokens, some 8 % of which the agent chose."""
    from trainers.data import Example

    rng = random.Random(0)
    made = []
    for number in range(count):
        weights = [0.0] * 40
        wanted = min(max(int(rng.lognormvariate(6.0, 0.5)), 100), longest)
        while len(weights) < wanted:
            weights += [0.0] * rng.randint(30, 90) + [1.0] * rng.randint(3, 7)
        ids = [rng.randrange(vocabulary) for _ in weights]
        made.append(Example(token_ids=ids, weights=weights, episode=f"e{number}", task="toy"))
    return made


def training(bench: Bench, name: str) -> list[Row]:
    """The steps of a job, as it takes them, without padding and with it, from the same weights on the same episodes."""
    from peft import LoraConfig, get_peft_model

    from trainers import BaseRef, JobConfig
    from trainers.training import resolve

    bench.clear()
    settings = bench.config(name)
    examples = episodes(settings.vocab_size, 32 * bench.size.batch, bench.size.longest)
    config = JobConfig(
        base=BaseRef(name=name, fingerprint=""),
        batch_size=bench.size.batch,
        epochs=40,
        device="auto" if bench.device == "cuda" else "cpu",
        save_every=10**9,
        spike=0.0,
    )
    setup = resolve(config, max(map(len, examples)))
    base = bench.model(name, setup.dtype, "sdpa" if setup.attention == "flash" else setup.attention)
    lora = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=config.targets, lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, lora)
    trained = [weights for weights in model.parameters() if weights.requires_grad]
    begun = [weights.detach().clone() for weights in trained]
    rows = []
    for form in ("packed", "padded"):
        for weights, first in zip(trained, begun, strict=True):
            weights.data.copy_(first)
        with tempfile.TemporaryDirectory() as folder:
            rows.append(_steps(bench, Path(folder), name, form, model, config, examples, setup))
    return rows


def _steps(
    bench: Bench, folder: Path, name: str, form: str, model: Any, config: Any, examples: Sequence[Any], setup: Any
) -> Row:
    from peft.helpers import disable_input_dtype_casting

    from trainers import Lineage
    from trainers.objectives import objective_of
    from trainers.training import Job, plan
    from trainers.training.loop import JobTrainer
    from trainers.training.packing import packed

    job = Job(folder=folder, config=config, examples=list(examples), lineage=Lineage())
    objective = objective_of(config, examples)
    setup = setup._replace(why_padded=None if form == "packed" else "asked for")
    model.zero_grad(set_to_none=True)
    bench.clear()
    with ExitStack() as stack:
        if form == "packed":
            stack.enter_context(packed(model.get_base_model(), setup.attention))
        if setup.dtype is torch.bfloat16:
            stack.enter_context(disable_input_dtype_casting(model))
        trainer = JobTrainer.of(job, job.examples, objective.prepare(examples), objective, model, setup, None)
        clock = _clock(bench)
        trainer.watch.cost = math.inf  # no checkpoints meanwhile
        trainer.add_callback(clock)
        trainer.go()
    batches = plan(len(examples), config.batch_size, config.epochs, config.seed)[1 : len(clock.times)]
    measured = [examples[index] for batch in batches for index in batch]
    sizes = [(len(example), sum(map(bool, example.weights))) for example in measured]
    seconds = clock.times[-1] - clock.times[0]
    longest = sum(len(batch) * max(len(examples[index]) for index in batch) for batch in batches)
    row = {
        "model": bench.title(name),
        "form": form,
        "attention": setup.attention,
        "dtype": str(setup.dtype).removeprefix("torch."),
        "steps": len(batches),
        "tokens_per_second": sum(length for length, _ in sizes) / seconds,
        "padding": 1 - sum(length for length, _ in sizes) / longest,
        "peak_gib": bench.peak_memory(),
        "at_once": trainer.footprint.examples,
        "recomputed": trainer.footprint.checkpointing,
        "loss": trainer.state.log_history[0]["loss"],
    }
    return _of_peak(bench, row, useful_work(bench.config(name).to_dict(), config.rank, sizes) / seconds)


def _clock(bench: Bench) -> Any:
    """A callback that keeps when each step was done, and ends the training once there was time enough."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.times.append(bench.settle())
            enough = len(self.times) > 2 and self.times[-1] - self.times[0] > bench.size.seconds
            control.should_training_stop |= enough

    return Clock()


# -- many episodes at once ---------------------------------------------------------------------------------------------


def wave(engine: TransformersEngine, numbers: Sequence[int], steps: int) -> tuple[list[list[list[float]]], int]:
    """Play the games of these numbers beside each other, to their ends: the scores of each game's steps, and the tokens
    that were read.

    A game goes its own way whatever the model prefers, so that all who play it read the same.
    """
    lots = [random.Random(f"game {number}") for number in numbers]
    talks = [engine.conversation(GOAL) for _ in numbers]
    scores: list[list[list[float]]] = [[] for _ in numbers]
    read = 0
    for _ in range(steps):
        asked = []
        for rng, talk in zip(lots, talks, strict=True):
            talk.observe(observation(rng))
            asked.append(ScoreRequest(talk, commands(rng, rng.randint(8, 30))))
        for at, found in enumerate(engine.score(asked)):
            scores[at].append(found.logprobs)
            read += found.usage.input_tokens
            talks[at].act(lots[at].choice(list(asked[at].commands)))
    for talk in talks:
        talk.close()
    return scores, read


def playing(bench: Bench, name: str, at_once: int) -> list[Row]:
    """Episodes a second where so many are played at once."""
    engine, size = bench.engine(name, "auto"), bench.size
    wave(engine, range(at_once), min(2, size.steps))
    bench.fresh_peak()
    kept: list[list[list[float]]] = []
    tokens = played = 0
    start = bench.settle()
    while played < COMPARED or bench.settle() - start < size.seconds:
        scores, read = wave(engine, range(played, played + at_once), size.steps)
        kept += scores[: COMPARED - len(kept)]
        tokens, played = tokens + read, played + at_once
    seconds = bench.settle() - start
    return [
        {
            "model": bench.title(name),
            "dtype": str(engine.dtype).removeprefix("torch."),
            "at_once": at_once,
            "episodes": played,
            "steps": size.steps,
            "episodes_per_second": played / seconds,
            "tokens_per_second": tokens / seconds,
            "peak_gib": bench.peak_memory(),
            "scores": [[[round(score, 5) for score in step] for step in steps] for steps in kept],
        }
    ]


COMPARED = 4
"""Games whose scores are kept, to be compared with those of one at a time."""


# -- numbers -----------------------------------------------------------------------------------------------------------


def parity(bench: Bench, name: str = "SmolLM2-135M") -> list[Row]:
    """How far scores are from those of one episode at a time in float32."""
    size, rows = bench.size, []
    reference: list[list[list[float]]] = []
    for dtype in ("float32", "bfloat16"):
        engine = bench.engine(name, dtype)
        for at_once in (1, size.compared):
            scores: list[list[list[float]]] = []
            for first in range(0, size.compared, at_once):
                scores += wave(engine, range(first, first + at_once), min(size.steps, 4))[0]
            reference = reference or scores
            rows.append({"model": bench.title(name), "dtype": dtype, "at_once": at_once} | apart(scores, reference))
    return rows


def apart(scores: Sequence[Sequence[Sequence[float]]], reference: Sequence[Sequence[Sequence[float]]]) -> Row:
    """How far the scores of games are from others of the same games, in nats a command; and how often both prefer the
    same one."""
    steps = [pair for games in zip(scores, reference, strict=True) for pair in zip(*games, strict=True)]
    distances = [abs(a - b) for one, other in steps for a, b in zip(one, other, strict=True)]
    same = [max(range(len(a)), key=a.__getitem__) == max(range(len(b)), key=b.__getitem__) for a, b in steps]
    return {
        "commands": len(distances),
        "largest": max(distances),
        "mean": sum(distances) / len(distances),
        "same": sum(same) / len(same),
    }
