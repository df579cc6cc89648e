"""Examples as the model sees them: the text of their tokens, and which of it carries loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentlab.errors import UnknownRound
from agentlab.lab import Lab
from agentlab.views.training_examples import training_example, training_examples
from agentlab.workspace.config import LabConfig
from memory.records import Episode, Step
from trainers import BaseRef, Choice, Distilled, Judged, Pair, job
from trainers.data import Example, Regularised
from trainers.errors import NotAJob

WORDS = ["Find", "it", ".", "⏎", "open", "door", "look", "again"]
LOSSES = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]


def example(*words: str, weights: list[float] | None = None, episode: str = "ep-1") -> Example:
    ids = [WORDS.index(word) for word in words]
    weights = weights or LOSSES[: len(ids)]
    return Example(token_ids=ids, weights=weights, episode=episode, task="toy/doors:train:3")


PLAIN = example("Find", "it", ".", "⏎", "open", "door")
OTHER = example("Find", "it", ".", "⏎", "look", "again", weights=[0, 0, 0, 0, 0.5, 0.25])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    from tokenizers import Tokenizer, models

    base = tmp_path_factory.mktemp("base")
    Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token=".")).save(
        str(base / "tokenizer.json")
    )
    kinds = {
        "round-1": ("sft", [PLAIN, *[OTHER] * 59, Regularised(example=PLAIN, reference=OTHER)]),
        "round-2": ("dpo", [Pair(better=PLAIN, worse=OTHER, weight=0.5)]),
        "round-3": ("kto", [Judged(example=PLAIN, desirable=True), Judged(example=OTHER, desirable=False)]),
        "round-4": (
            "soft_distill",
            [Distilled(example=PLAIN, choices=[Choice(at=4, candidates=[[4, 5], [6]], probabilities=[0.75, 0.25])])],
        ),
        "round-5": ("sft", [PLAIN]),
    }
    with Lab.open(tmp_path_factory.mktemp("lab") / "lab", create=True, config=LabConfig(embedder="hashing")) as lab:
        (lab.folder / "jobs").mkdir()
        seen = {"observation": "A door.", "state": "s", "result": "Open.", "next_state": "s"}
        step = Step(index=0, action="open door", admissible=["open door"], **seen)
        lived = Episode(id="ep-1", run="r", env="toy/doors", split="train", seed=3, status="won", goal="Find it.")
        lab.database.episodes.put(lived.model_copy(update={"steps": [step]}))
        for id, (objective, records) in kinds.items():
            path = str(base) if id != "round-5" else str(base / "gone")
            config = job.JobConfig(base=BaseRef(name="words", fingerprint="f", path=path), objective=objective)
            job.create(lab.folder / "jobs" / id, config, records)
        lab.config = lab.config.model_copy(update={"model": str(base / "gone")})
        yield lab


def test_the_text_is_that_of_the_tokens_and_what_carries_loss_stands_apart(lab: Lab) -> None:
    found = training_example(lab, "round-1", 1)
    assert (found.kind, found.objective, found.read_by, found.total) == ("example", "sft", "words", 61)
    (shown,) = found.sequences
    assert [(piece.text, piece.weight) for piece in shown.segments] == [("Find it . ⏎", 0.0), (" open door", 1.0)]
    assert (shown.tokens, shown.with_loss, shown.env) == (6, 2, "toy/doors")
    assert [piece.weight for piece in training_example(lab, "round-1", 2).sequences[0].segments] == [0.0, 0.5, 0.25]


def test_each_kind_of_record_says_what_its_sequences_are_there_for(lab: Lab) -> None:
    roles = {
        (round, number): [part.role for part in training_example(lab, round, number).sequences]
        for round, number in [("round-1", 61), ("round-2", 1), ("round-3", 1), ("round-3", 2), ("round-4", 1)]
    }
    assert list(roles.values()) == [
        ["taught", "kept to the base (KL)"], ["better side", "worse side"], ["desirable"], ["undesirable"], ["taught"],
    ]  # fmt: skip
    assert training_example(lab, "round-2", 1).weight == 0.5
    (choice,) = training_example(lab, "round-4", 1).choices
    assert [(one.text, one.probability) for one in choice] == [("open door", 0.75), ("look", 0.25)]


def test_without_the_tokenizer_the_episode_is_shown_as_it_is_stored(lab: Lab) -> None:
    found = training_example(lab, "round-5", 1)
    assert found.read_by == ""
    marked = "".join(piece.text for piece in found.sequences[0].segments if piece.weight)
    assert marked == " open door\n"
    assert "A door." in "".join(piece.text for piece in found.sequences[0].segments)


def test_a_list_has_a_part_of_them_without_their_text(lab: Lab) -> None:
    first, last = training_examples(lab, "round-1"), training_examples(lab, "round-1", 50)
    assert [one.number for one in (*first.examples, *last.examples)] == list(range(1, 62))
    assert first.total == 61 and not first.examples[0].sequences[0].segments
    assert training_examples(lab, "round-9").examples == []


def test_what_is_not_there_is_told(lab: Lab) -> None:
    for number in (0, 62):
        with pytest.raises(UnknownRound, match="61 examples"):
            training_example(lab, "round-1", number)
    place = lab.folder / "jobs" / "round-6"
    place.mkdir()
    (place / "examples.jsonl").write_text("{torn\n")
    with pytest.raises(NotAJob):
        training_example(lab, "round-6", 1)


def test_a_damaged_tokenizer_is_as_good_as_none(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    config = job.JobConfig(base=BaseRef(name="words", fingerprint="f", path=str(tmp_path)))
    job.create(lab.folder / "jobs" / "round-7", config, [PLAIN])
    assert training_example(lab, "round-7", 1).read_by == ""
