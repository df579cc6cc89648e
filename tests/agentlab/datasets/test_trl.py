"""What is exported is trained on by TRL as it is, and the loss is on the agent's own tokens alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

trl = pytest.importorskip("trl", reason="TRL is not installed (`pip install trl datasets` runs these tests)")
datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets are not installed")

from transformers import AutoTokenizer  # noqa: E402

from agentlab.lab import Lab  # noqa: E402
from memory.records import Episode  # noqa: E402
from trainers.data import Tokenizer, from_episode  # noqa: E402

MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The same template as the model's own, with marks around what the assistant says."""

WON, LOST = ("read note", "take coin", "look"), ("read note", "go west", "go east")


@pytest.fixture
def exported(lab: Lab, play: Callable[..., Episode], tiny_chat_model: Path, tmp_path: Path) -> Path:
    """A data set of a won and a lost attempt at each of four games, with the tokens that the tiny model would see."""
    tokenize = Tokenizer.of(AutoTokenizer.from_pretrained(tiny_chat_model))
    for seed in range(4):
        for id, actions in (("won", WON), ("lost", LOST)):
            made = play(f"{id}-{seed}", *actions, won=id == "won", seed=seed, goal=f"Find coin {seed}.")
            seen = from_episode(made, tokenize)
            tokens = {"token_ids": seen.token_ids, "action_spans": seen.spans}
            lab.database.episodes.put(made.model_copy(update=tokens))
    return lab.export_episodes(tmp_path / "data").folder


@pytest.fixture
def load(exported: Path, tmp_path: Path) -> Callable[[str], Any]:
    """Loads a config of the data set, without network."""

    def loaded(config: str) -> Any:
        return datasets.load_dataset(str(exported), config, split="train", cache_dir=str(tmp_path / "cache"))

    return loaded


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """What all trainings share: two steps on the processor, and nothing told to anybody."""
    return {
        "output_dir": str(tmp_path / "out"), "max_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True,
        "report_to": [], "max_length": None, "logging_steps": 1, "save_strategy": "no", "bf16": False,
    }  # fmt: skip


def with_loss(trainer: Any, tokenizer: Any) -> set[tuple[str, ...]]:
    """Of each row the pieces of text that carry loss."""
    found = set()
    for row in trainer.train_dataset:
        pieces, last = list[list[int]](), -2
        for place, label in enumerate(row["labels"]):
            if label == -100:
                continue
            if place > last + 1:
                pieces.append([])
            pieces[-1].append(label)
            last = place
        found.add(tuple(tokenizer.decode(ids) for ids in pieces))
    return found


def trained(trainer: Any) -> bool:
    """Whether two steps were made that changed the weights."""
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    result = trainer.train()
    return result.global_step == 2 and any((before[n] != v).any() for n, v in trainer.model.named_parameters())


def test_sft_from_what_was_played_has_its_loss_on_the_actions_alone(
    load: Callable[[str], Any], settings: dict[str, Any], tiny_chat_model: Path
) -> None:
    trainer = trl.SFTTrainer(str(tiny_chat_model), train_dataset=load("sft_tokens"), args=trl.SFTConfig(**settings))
    tokenizer = AutoTokenizer.from_pretrained(tiny_chat_model)
    assert with_loss(trainer, tokenizer) == {(" read note\n", " take coin\n", " look\n")}
    assert trained(trainer)


def test_sft_from_messages_has_its_loss_on_the_actions_alone(
    load: Callable[[str], Any], settings: dict[str, Any], tiny_chat_model: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_chat_model)
    tokenizer.chat_template = MARKED
    trainer = trl.SFTTrainer(
        str(tiny_chat_model),
        train_dataset=load("sft"),
        args=trl.SFTConfig(assistant_only_loss=True, **settings),
        processing_class=tokenizer,
    )
    assert with_loss(trainer, tokenizer) == {("read note<|im_end|>", "take coin<|im_end|>", "look<|im_end|>")}
    assert trained(trainer)


def test_dpo_compares_what_the_agent_said_where_two_attempts_part(
    load: Callable[[str], Any], settings: dict[str, Any], tiny_chat_model: Path
) -> None:
    trainer = trl.DPOTrainer(str(tiny_chat_model), train_dataset=load("preferences"), args=trl.DPOConfig(**settings))
    tokenizer = AutoTokenizer.from_pretrained(tiny_chat_model)
    sides = {
        tuple(tokenizer.decode(row[side]) for side in ("chosen_ids", "rejected_ids")) for row in trainer.train_dataset
    }
    assert sides == {("take coin<|im_end|>\n", "go west<|im_end|>\n")}
    prompts = [tokenizer.decode(row["prompt_ids"]) for row in trainer.train_dataset]
    assert len(prompts) == 4 and all(prompt.endswith("<|im_start|>assistant\n") for prompt in prompts)
    assert all("After read note." in prompt and "After take" not in prompt for prompt in prompts)
    assert trained(trainer)


def test_every_config_loads_without_network(exported: Path, tmp_path: Path) -> None:
    for config, count in (("episodes", 8), ("sft", 4), ("sft_tokens", 4), ("preferences", 4)):
        loaded = datasets.load_dataset(str(exported), config, cache_dir=str(tmp_path / "cache"))
        assert {split: len(rows) for split, rows in loaded.items()} == {"train": count}
