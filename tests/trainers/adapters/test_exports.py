"""An exported adapter is one for others: peft loads it as it is, its canary shows, and its script plays a game."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memory.prompts import Prompting
from memory.records import Episode, PromptName
from memory.store.database import Database
from trainers.adapters import PromptFormat, export, loading
from trainers.adapters.record import AdapterRecord
from trainers.adapters.registry import AdapterRegistry
from trainers.data import Tokenizer, from_episode
from trainers.errors import CannotExport, NoChatTemplate, WrongBase
from trainers.training import Canary

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def registry(tmp_path: Path, make_episode: Callable[..., Episode]) -> Iterator[AdapterRegistry]:
    with_thoughts = {"prompt": "transcript+thought"}
    database = Database(tmp_path / "lab.db")
    for number in range(3):
        database.episodes.put(make_episode(f"e{number}", **(with_thoughts if number == 2 else {})))
    yield AdapterRegistry(database, tmp_path)
    database.close()


@pytest.fixture
def record(registry: AdapterRegistry, trained: Path) -> AdapterRecord:
    return registry.register(trained)


def check_of(card: str) -> str:
    """The script in a card that checks the canary."""
    return re.findall(r"```python\n(.*?)```", card, re.S)[0]


def test_peft_loads_it_with_the_base_beside_it_and_its_canary_shows_that_it_is_on(
    registry: AdapterRegistry, record: AdapterRecord, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file, save_file

    done = export(registry, record.id[:12], tmp_path / "out", base=tiny_model, with_base=True)
    linked = [file.name for file in (done.folder / "base").iterdir() if file.samefile(tiny_model / file.name)]
    assert linked == ["model.safetensors"], "hard links, where the disk has them; what an editor opens is a copy"
    script = check_of((done.folder / "README.md").read_text("utf-8"))
    monkeypatch.chdir(done.folder)
    told: dict[str, Any] = {}
    exec(script, told)
    canary = Canary.load(Path("canary.json"))
    assert abs(told["found"] - canary.adapter_logprob) < 1e-3 and canary.discriminates
    # With the adapter off the same script fails.
    name = "adapter_model.safetensors"
    save_file({key: 0 * value for key, value in load_file(name).items()}, name, metadata={"format": "pt"})
    with pytest.raises(AssertionError, match="the adapter is off"):
        exec(script, {})


def test_its_script_plays_a_game_wherever_the_folder_was_moved(
    registry: AdapterRegistry,
    record: AdapterRecord,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = export(registry, record.id, tmp_path / "out", base=tiny_model, with_base=True)
    os.rename(done.folder, tmp_path / "moved")
    script = tmp_path / "moved" / "play.py"
    monkeypatch.setattr(sys, "argv", [str(script)])  # a held-out game of those that it was trained on
    runpy.run_path(str(script), run_name="__main__")
    said = capsys.readouterr().out
    assert "\n> " in said and re.search(r"(Won|Not won), score \d\.\d\d\.\n$", said)


def test_a_base_of_this_machine_is_named_by_its_place_and_that_is_said(
    registry: AdapterRegistry, record: AdapterRecord, tiny_model: Path, tmp_path: Path
) -> None:
    done = export(registry, record.id, tmp_path / "out", base=tiny_model)
    settings = json.loads((done.folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tiny_model) and "--with-base" in done.caution
    assert not (done.folder / "base").exists()
    assert (done.folder / "tokenizer.json").read_bytes() == (tiny_model / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    ("base", "id", "cautious"),
    [
        ("org/some-model", "org/some-model", False),
        ("SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct", True),
    ],
)
def test_a_base_that_a_hub_has_is_named_as_there(
    registry: AdapterRegistry,
    record: AdapterRecord,
    tiny_model: Path,
    tmp_path: Path,
    base: str,
    id: str,
    cautious: bool,
) -> None:
    registry.records.put(record.model_copy(update={"base": base}))
    done = export(registry, record.id, tmp_path / "out", base=tiny_model)
    assert json.loads((done.folder / "adapter_config.json").read_text())["base_model_name_or_path"] == id
    # The hub's weights of the default model are not those that it was trained on here.
    assert bool(done.caution) == cautious
    assert f"vllm serve {id} --enable-lora --max-lora-rank 16 --lora-modules {record.id}=." in done.serve
    assert done.serve.partition("&& ")[2] in (done.folder / "README.md").read_text("utf-8")


def test_the_commands_that_it_prints_can_be_pasted_whatever_the_folder_is_called(
    registry: AdapterRegistry, record: AdapterRecord, tiny_model: Path, tmp_path: Path
) -> None:
    base = tmp_path / "my base"
    shutil.copytree(tiny_model, base)
    done = export(registry, record.id, tmp_path / "it's out", base=base)
    enter, folder, _, program, verb, served, *_ = shlex.split(done.serve)
    assert [enter, folder, program, verb, served] == ["cd", str(done.folder), "vllm", "serve", str(base)]
    assert done.serve.partition("&& ")[2] in (done.folder / "README.md").read_text("utf-8")


def test_what_is_in_the_folder_stays(
    registry: AdapterRegistry, record: AdapterRecord, tiny_model: Path, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    taken, other = tmp_path / "taken", make_model("llama")
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    for folder in (taken, taken / "mine.txt"):
        with pytest.raises(CannotExport, match="nothing is overwritten"):
            export(registry, record.id, folder, base=tiny_model)
    with pytest.raises(WrongBase):
        export(registry, record.id, tmp_path / "new", base=other)
    assert [path.name for path in taken.iterdir()] == ["mine.txt"]
    assert not [path.name for path in tmp_path.iterdir() if "new" in path.name]


def test_a_failure_leaves_nothing(
    registry: AdapterRegistry, record: AdapterRecord, tiny_model: Path, tmp_path: Path
) -> None:
    """An episode that was played as a chat cannot be prompted so by a base that has no template."""
    played = registry.database.episodes.get("e0")
    registry.database.episodes.put(played.model_copy(update={"id": "e19", "prompt": "chat"}))
    lineage = record.lineage.model_copy(update={"episodes": ["e19"]})
    registry.records.put(record.model_copy(update={"lineage": lineage}))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(NoChatTemplate):
        export(registry, record.id, tmp_path / "out", base=tiny_model)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["transcript", "transcript+thought", "chat", "chat+thought"])
def test_by_its_prompt_format_the_same_tokens_are_made_as_it_was_trained_on(
    name: str, tiny_model: Path, tmp_path: Path, make_episode: Callable[..., Episode]
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    tokenize = Tokenizer.of(tokenizer)
    played = make_episode(prompt=name, hints="- Go north.")
    steps = [step.model_copy(update={"thought": f"I see <|im_end|> {step.index}."}) for step in played.steps]
    played = played.model_copy(update={"steps": steps})
    form = json.loads(PromptFormat.of(tokenize, Prompting.named(played.prompt)).model_dump_json())

    def tokens(pieces: list[Any], **said: str) -> list[int]:
        texts = (tokenize(piece.format(**said)) if isinstance(piece, str) else piece for piece in pieces)
        return [token for piece in texts for token in piece]

    for hints, ids in (
        ("- Go north.", tokens(form["head_with_hints"], goal=played.goal, hints="- Go north.")),
        ("", tokens(form["head"], goal=played.goal)),
    ):
        for at, step in enumerate(played.steps):
            seen = {"observation": step.observation, "commands": "; ".join(step.admissible or ())}
            ids += tokens(form["first" if not at else "later"], **seen)
            ids += tokens(form["thought"], thought=step.thought) + tokens(form["command"], command=step.action)
        assert from_episode(played, tokenize, with_hints=bool(hints)).token_ids == ids


class Odd:
    """A game whose texts look like turns of a transcript, have more than one line, or none."""

    goal = "> Win.\n> Twice."
    turns = (("A sign:\n> open it\n\uff1e or not", "take\nthe coin"), ("", "> jump"), ("\n> Done.", "rest"))

    def start(self, task: object) -> tuple[str, dict[str, Any]]:
        self.at = 0
        return self.turns[0][0], self.info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.at += 1
        return self.turns[self.at][0], 0.0, self.at == 2, False, self.info()

    def info(self) -> dict[str, Any]:
        return {"goal": self.goal, "admissible_commands": [self.turns[self.at][1]], "won": True, "score": 1.0}

    def close(self) -> None:
        """Nothing to do."""


@pytest.mark.parametrize("name", ["transcript", "transcript+thought", "chat", "chat+thought"])
def test_its_script_reads_odd_texts_as_it_was_trained_on_them(
    name: PromptName,
    tiny_chat_model: Path,
    tmp_path: Path,
    make_episode: Callable[..., Episode],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoTokenizer

    tokenizer, asked = AutoTokenizer.from_pretrained(tiny_chat_model), []

    def on(model: Any, folder: Path) -> Any:
        """The base without an adapter, which always has one thought."""

        def generate(ids: torch.Tensor, **settings: Any) -> torch.Tensor:
            asked.append(settings["max_new_tokens"])
            said = tokenizer(" > I see. \n> more", return_tensors="pt").input_ids
            return torch.cat([ids, said], dim=1)

        model.generate = generate
        return model

    monkeypatch.setattr(PeftModel, "from_pretrained", on)
    monkeypatch.setattr("environments.make", lambda name: Odd())
    monkeypatch.setattr(sys, "argv", ["play.py", "toy/doors", "3"])
    form = PromptFormat.of(Tokenizer.of(tokenizer), Prompting.named(name))
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "base").symlink_to(tiny_chat_model)
    (tmp_path / "prompt.json").write_text(form.model_dump_json())
    (tmp_path / "play.py").write_text(loading.play("toy/doors", form, 7))
    ids = runpy.run_path(str(tmp_path / "play.py"), run_name="__main__")["ids"]
    thinks = name.endswith("+thought")
    assert asked == [7, 7] * thinks, "as the lab's own"

    played = make_episode(prompt=name, goal=Odd.goal)
    steps = [
        step.model_copy(
            update={"observation": seen, "admissible": [said], "action": said, "thought": "> I see." * thinks}
        )
        for step, (seen, said) in zip(played.steps, Odd.turns, strict=False)
    ]
    trained = from_episode(played.model_copy(update={"steps": steps}), Tokenizer.of(tokenizer)).token_ids
    assert tokenizer.decode(ids) == tokenizer.decode(trained) and ids == trained
