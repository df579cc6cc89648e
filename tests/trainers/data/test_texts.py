"""General texts as examples."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from trainers.data.selectors import Text
from trainers.data.texts import from_text, read_texts
from trainers.errors import BadExample, BadTexts


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_texts_are_read_once_each_from_either_form(tmp_path: Path) -> None:
    file = tmp_path / "general.jsonl"
    file.write_text('{"text": "Hello."}\n\n{"prompt": "Hi", "completion": " there"}\n{"text": "Hello."}\n')
    assert read_texts(file) == [Text(completion="Hello."), Text(prompt="Hi", completion=" there")]


FERRY = "The ferry leaves the harbour at seven."
FORMS = {
    "a conversation": {"messages": [{"role": "user", "content": "When?"}, {"role": "assistant", "content": FERRY}]},
    "in parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "When?"}, {"type": "image"}]},
            {"role": "assistant", "content": [{"type": "text", "text": FERRY}], "name": None},
        ]
    },
    "of another tool": {"conversations": [{"from": "human", "value": "When?"}, {"from": "gpt", "value": FERRY}]},
    "more than a pair": {"prompt": "When?", "completion": FERRY, "source": "x", "score": 3},
    "a pair of conversations": {
        "prompt": [{"role": "user", "content": "When?"}],
        "completion": [{"role": "assistant", "content": FERRY}],
    },
    "an instruction": {"instruction": "When?", "input": "", "output": FERRY},
    "a question": {"question": "When?", "answer": FERRY},
}


@pytest.mark.parametrize("entry", FORMS.values(), ids=FORMS)
def test_the_usual_forms_of_training_texts_are_read(tmp_path: Path, entry: dict[str, object]) -> None:
    (tmp_path / "lines.jsonl").write_text(json.dumps(entry) + "\n")
    (tmp_path / "list.json").write_text(json.dumps([entry], indent=1))
    for name in ("lines.jsonl", "list.json"):
        (text,) = read_texts(tmp_path / name)
        assert text.completion == FERRY
        assert "When?" in text.prompt


def test_each_answer_of_a_conversation_is_a_text_after_what_was_said_before(tmp_path: Path) -> None:
    turns = [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello."),
        ("user", "When?"),
        ("assistant", "At 7."),
    ]
    line = json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]})
    (tmp_path / "chat.jsonl").write_text(line)
    first, second = read_texts(tmp_path / "chat.jsonl")
    assert (first.completion, second.completion) == ("Hello.", "At 7.")
    assert second.prompt.startswith(first.prompt + "Hello.")


def test_a_list_of_texts_is_read_and_so_is_a_packed_file(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps(["One.", {"text": "Two."}]))
    (tmp_path / "lines.jsonl.gz").write_bytes(gzip.compress(b'{"text": "One."}\n{"text": "Two."}\n', mtime=0))
    for name in ("list.json", "lines.jsonl.gz"):
        assert [text.completion for text in read_texts(tmp_path / name)] == ["One.", "Two."]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0c", "\x1c"])
def test_a_character_that_unicode_counts_as_a_line_end_tears_no_text(tmp_path: Path, mark: str) -> None:
    line = json.dumps({"text": f"One{mark}two."}, ensure_ascii=False)
    (tmp_path / "general.jsonl").write_text(f'{line}\n{line[:-2]} More."}}\n', encoding="utf-8", newline="")
    assert [text.completion for text in read_texts(tmp_path / "general.jsonl")] == [
        f"One{mark}two.", f"One{mark}two. More."
    ]  # fmt: skip


def test_half_a_character_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "general.jsonl").write_text('{"text": "half \\ud83d a ferry \\ud83d\\ude00"}\n')
    (text,) = read_texts(tmp_path / "general.jsonl")
    assert text.completion == "half \ufffd a ferry \U0001f600"
    assert from_text(text, letters).token_ids


def test_plain_text_is_read_by_paragraphs(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("[1] The ferry leaves\nat seven.\n\n \nIt comes back.\n")
    assert [text.completion for text in read_texts(tmp_path / "plain.txt")] == [
        "[1] The ferry leaves\nat seven.", "It comes back."
    ]  # fmt: skip
    (tmp_path / "long.md").write_text("The ferry leaves. " * 1000)
    pieces = [text.completion for text in read_texts(tmp_path / "long.md")]
    assert len(pieces) > 1 and max(map(len, pieces)) <= 4000
    (tmp_path / "json.txt").write_text('{"text": "Hello."}\n')
    assert read_texts(tmp_path / "json.txt") == [Text(completion="Hello.")]
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(BadTexts, match="cannot be read"):
        read_texts(tmp_path / "latin.txt")


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
