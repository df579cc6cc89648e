"""General texts as examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainers.errors import BadExample, BadTexts
from trainers.selectors import Text
from trainers.texts import from_text, read_texts


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_texts_are_read_once_each_from_either_form(tmp_path: Path) -> None:
    file = tmp_path / "general.jsonl"
    file.write_text('{"text": "Hello."}\n\n{"prompt": "Hi", "completion": " there"}\n{"text": "Hello."}\n')
    assert read_texts(file) == [Text(completion="Hello."), Text(prompt="Hi", completion=" there")]


@pytest.mark.parametrize("line", ["no json", "[1]", '{"text": 3}', '{"prompt": "only"}', '{"messages": []}'])
def test_a_line_that_is_no_text_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "general.jsonl"
    file.write_text('{"text": "fine"}\n' + line)
    with pytest.raises(BadTexts, match="line 2 of"):
        read_texts(file)


def test_a_missing_file_is_an_error_of_this_package(tmp_path: Path) -> None:
    with pytest.raises(BadTexts, match="cannot be read"):
        read_texts(tmp_path / "none.jsonl")


def test_only_the_completion_carries_loss() -> None:
    example = from_text(Text(prompt="Q:", completion="42"), letters, weight=0.5)
    assert example.token_ids == letters("Q:42")
    assert example.weights == [0.0, 0.0, 0.5, 0.5]
    assert example.task == "general" and example.episode.startswith("text-")


def test_a_text_without_a_prompt_is_predicted_from_its_second_token() -> None:
    assert from_text(Text(completion="abc"), letters).weights == [0.0, 1.0, 1.0]


def test_a_long_text_is_cut_and_one_with_nothing_to_predict_refused() -> None:
    assert from_text(Text(prompt="Q", completion="abcdef"), letters, max_tokens=4).token_ids == letters("Qabc")
    with pytest.raises(BadExample, match="no token to predict"):
        from_text(Text(prompt="Long question", completion="a"), letters, max_tokens=5)
    with pytest.raises(BadExample):
        from_text(Text(completion="a"), letters)
