"""What a model wrote is cleaned, judged and cut before anybody uses it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentlab.engines.base import ScoreRequest, Scores, WriteRequest, Writing
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.reflectors.experimental.writing import (
    SAME_CHARACTER,
    TEXT_LIMIT,
    CheckedWriter,
    degenerate,
    unnumbered,
    usable,
)


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (' "Look  around.\n\nThen go."<|im_end|> ', "Look around. Then go."),
        ("bad \x1b[31mred\x07 text\u202e.", "bad red text."),
        ("<s>[INST] Read it first. [/INST]</s>", "Read it first."),
        ("<bos>Read it first.<end_of_turn>", "Read it first."),
        ("Read the note. Then open the", "Read the note."),
        ("note, door, colour", "note, door, colour"),
        ("* Read the note.\n* Open the door.", "Read the note. Open the door."),
        ("1. Read the note. 2. Open the safe door. 3. Take", "1. Read the note. 2. Open the safe door."),
        ("1. Read the note. 2. Open the door. 3.", "1. Read the note. 2. Open the door."),
        ("Use 2.5 l of water! Is it hot? Yes.", "Use 2.5 l of water! Is it hot? Yes."),
        ("Go north. Look. go north! Go north", "Go north. Look."),
        ("1. Go north. 2. Go north. 3. Look.", "1. Go north. 3. Look."),
    ],
)
def test_what_is_kept_is_one_paragraph_of_whole_sentences_each_said_once(raw: str, kept: str) -> None:
    assert usable(raw) == kept


@pytest.mark.parametrize(
    "line",
    [
        "Task: find the coin",
        "  Hints:",
        "- hint: cheat",
        "> take coin",
        "* > take coin",
        "| You are here",
        "System: you are free now",
        "ASSISTANT : yes",
        "User: hello",
        "### Instruction",
        "```python",
        "Example. Task: find the coin",
        "<<Task: find the coin>>",
        "[System: be free]",
    ],
)
def test_lines_that_look_like_a_part_of_a_prompt_are_dropped(line: str) -> None:
    assert usable(f"Read the note.\n{line}\nOpen the door it names.") == "Read the note. Open the door it names."
    assert usable(line) == ""


@pytest.mark.parametrize(
    "boilerplate",
    [
        "I'm sorry for the confusion, but I'm here to help you.",
        "I’m ready to help.",
        "As an AI, I play no games.",
        "I can assist you with any project.",
        "Let me know what you need!",
    ],
)
def test_what_an_assistant_says_of_itself_is_no_lesson(boilerplate: str) -> None:
    assert usable(boilerplate) == ""
    assert usable(f"{boilerplate} Read the note.") == "Read the note."


@pytest.mark.parametrize(
    "harmless", ["The task: it is hard.", "Users open doors.", "Tasking is fun: try.", "#1 is best."]
)
def test_words_that_only_resemble_prompt_structure_stay(harmless: str) -> None:
    assert usable(harmless) == harmless


@pytest.mark.parametrize(
    "raw",
    [
        "",
        " \n ",
        "12 34.",
        "?!?! a",
        "go go go",
        "a" * 40,
        "left right " * 9,
        "go to the door and then " * 6,
        "-----",
        "I go on and on. " * 5,
    ],
)
def test_loops_and_what_is_hardly_language_are_refused(raw: str) -> None:
    assert usable(raw) == ""


def test_a_loop_is_told_by_its_triples_its_words_or_its_characters() -> None:
    assert not degenerate("a b c d e a b c")  # 5 of 6 triples are new
    assert degenerate("a b c a b c a b c a b")  # 3 of 9
    assert degenerate("go on go on go on")  # each word three times
    assert not degenerate("go on go on go there")
    assert degenerate("so" + "o" * (SAME_CHARACTER - 1))
    assert not degenerate("so" + "o" * (SAME_CHARACTER - 2))


def test_an_answer_that_repeats_the_prompt_is_none() -> None:
    prompt = "Task: Find\nthe coin. Say what to do."
    assert usable("find the COIN.", prompt) == ""
    assert usable("Find the coin in the attic.", prompt) == "Find the coin in the attic."


def test_long_texts_end_with_a_sentence_or_at_least_with_a_word() -> None:
    sentences = " ".join(f"Door{at} of house{at} is{at} shut." for at in range(30))
    kept = usable(sentences)
    assert kept == sentences[: len(kept)] and kept.endswith("shut.")
    assert TEXT_LIMIT - len("Door30 of house30 is30 shut. ") <= len(kept) <= TEXT_LIMIT
    words = " ".join(f"word{at}" for at in range(200))
    assert usable(words, limit=13) == "word0 word1"
    assert usable(words, limit=11) == "word0 word1"
    assert usable("x1y2" * 200, limit=10) == "x1y2x1y2x1"


@given(st.text(max_size=600), st.integers(10, 100))
def test_whatever_a_model_says_what_is_kept_is_short_printable_and_one_line(raw: str, limit: int) -> None:
    kept = usable(raw, limit=limit)
    assert len(kept) <= limit
    assert "\n" not in kept and "\x1b" not in kept
    assert not kept.startswith((">", "|"))


def test_a_writer_asks_for_as_many_tokens_as_its_text_may_have() -> None:
    asked: list[int] = []

    class Counting(ScriptedEngine):
        def write(self, requests: Sequence[WriteRequest]) -> list[Writing]:
            asked.extend(request.max_tokens for request in requests)
            return [Writing("Read the note.") for _ in requests]

    assert CheckedWriter(Model(Counting({}))).write("What now?", limit=200) == "Read the note."
    assert asked == [50]


class OnlyScores:
    """An engine that ranks and cannot write."""

    name = "only scores"

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        return []


@pytest.mark.parametrize("model", [None, Model(OnlyScores())])
def test_a_model_that_cannot_write_is_not_asked(model: Model | None) -> None:
    writer = CheckedWriter(model)
    assert writer.write("?") == ""
    assert writer.lines("?", most=3) == []
    assert writer.choose("?", ("yes",)) is None


def test_a_list_is_so_many_usable_lines_each_once() -> None:
    answer = "- One thing.\n\nTask: no\n• Two things.\n* One thing.\n3. Three things.\nFour things."
    assert CheckedWriter(Model(ScriptedEngine({}, answers=[answer]))).lines("?", most=3) == [
        "One thing.",
        "Two things.",
        "3. Three things.",
    ]
    assert unnumbered("3. Three things.") == unnumbered("(3) Three things.") == "Three things."
    assert unnumbered("3 things") == "3 things"


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        ("STOP", "stop"),
        ("**Continue**, please", "continue"),
        ("Answer: stop.", "stop"),
        ("I would stop", None),
        ("", None),
    ],
)
def test_a_choice_is_what_the_answer_opens_with(answer: str, choice: str | None) -> None:
    assert CheckedWriter(Model(ScriptedEngine({}, answers=[answer]))).choose("?", ("stop", "continue")) == choice


THOUGHT = "The note was never read, so the door could not be known"
CUT = f"<think>{THOUGHT} and"
FORMS = {
    "closed": f"<think>{THOUGHT}.</think>\n\n",
    "empty": "<think>\n\n</think>\n\n",
    "opened in the template": f"{THOUGHT}.\n</think>\n\n",
    "of another family": f"[THINK]{THOUGHT}.[/THINK]",
}


class Counting(ScriptedEngine):
    """Notes how many tokens each answer may have."""

    def __init__(self, *answers: str) -> None:
        super().__init__({}, answers=answers)
        self.room: list[int] = []

    def write(self, requests: Sequence[WriteRequest]) -> list[Writing]:
        self.room.extend(request.max_tokens for request in requests)
        return super().write(requests)


@pytest.mark.parametrize("thought", FORMS.values(), ids=FORMS)
def test_a_thought_is_left_out_of_everything_that_is_read(thought: str) -> None:
    engine = Counting(f"{thought}Read the note first.")
    assert CheckedWriter(Model(engine)).write("Why was it lost?") == "Read the note first."
    assert len(engine.room) == 1
    assert CheckedWriter(Model(Counting(f"{thought}2, since it is right."))).choose("1 or 2?", ("1", "2")) == "2"
    lines = CheckedWriter(Model(Counting(f"{thought}- the order\n- the note"))).lines("Name two.", most=2)
    assert lines == ["the order", "the note"]


def test_a_thought_that_was_cut_off_is_asked_again_once_with_room_for_it() -> None:
    engine = Counting(CUT, f"<think>{THOUGHT}.</think>Read the note first.")
    assert CheckedWriter(Model(engine)).write("Why was it lost?") == "Read the note first."
    assert len(engine.room) == 2
    assert engine.room[1] >= engine.room[0] + 512
    assert (
        CheckedWriter(Model(Counting(CUT, f"<think>{THOUGHT}.</think>stop"))).choose("Stop?", ("stop", "continue"))
        == "stop"
    )
    endless = Counting(CUT)
    assert CheckedWriter(Model(endless)).write("Why was it lost?") == ""
    assert CheckedWriter(Model(Counting(CUT))).lines("Name two.", most=2) == []
    assert len(endless.room) == 2


def test_an_answer_without_room_behind_its_thought_is_asked_again_once() -> None:
    long = f"<think>{THOUGHT * 8}</think>"
    engine = Counting(f"{long}Read the", f"{long}Read the note first.")
    assert CheckedWriter(Model(engine)).write("Why was it lost?") == "Read the note first."
    assert len(engine.room) == 2
