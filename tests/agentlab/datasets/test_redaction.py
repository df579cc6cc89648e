"""What goes through a person's own function: every text, or nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentlab.datasets.redaction import Redaction, named
from agentlab.errors import BadConfig, RedactionFailed
from agentlab.lab import Lab
from memory.records import Episode, Reflection

Play = Callable[..., Episode]
SECRET = "Rosebud"


def hidden(text: str) -> str:
    return text.replace(SECRET, "[name]")


def told_everywhere(play: Play) -> Episode:
    """A win in which the secret stands wherever text can."""
    won = play(
        "told", f"ask {SECRET}", "take coin", won=True, goal=f"Find {SECRET}.", hints=f"{SECRET} bites.",
        recalled=["r"], error=f"{SECRET} broke", prompt="chat+thought", token_ids=[1, 2, 3, 4],
        action_spans=[(1, 2), (3, 4)],
    )  # fmt: skip
    for step in won.steps:
        step.note, step.thought, step.state = f"Mind {SECRET}.", f"{SECRET}, then.", f"Near {SECRET}."
        step.admissible, step.token_ids, step.logprobs = [f"ask {SECRET}", "take coin"], [5, 6], [-1.0, -2.0]
        step.result += SECRET
    return won


def test_no_text_leaves_the_lab_as_it_was(
    lab: Lab, play: Play, read: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    won = told_everywhere(play)
    lost = play("lost", f"kick {SECRET}", goal=won.goal)
    lab.database.episodes.put(won)
    lab.database.episodes.put(lost)
    lab.memory.remember([Reflection(id="r", kind="written", env="toy/doors", task="t", text=f"Ask {SECRET}.")])
    open_, closed = (lab.export_episodes(tmp_path / name, redact=how) for name, how in (("a", None), ("b", hidden)))
    for config in ("episodes", "sft", "preferences"):
        said, kept = (json.dumps(read(done.folder, config)) for done in (open_, closed))
        assert SECRET in said and SECRET not in kept and "[name]" in kept, config
    assert read(open_.folder, "sft_tokens") and not read(closed.folder, "sft_tokens")
    row = {row["id"]: row for row in read(closed.folder, "episodes")}["told"]
    assert (row["token_ids"], row["own_mask"]) == ([], [])
    assert all((step["token_ids"], step["logprobs"]) == ([], []) for step in row["steps"])
    assert row["steps"][0]["action"] in row["steps"][0]["commands"]
    assert row["recalled"] == [{"reflection": "r", "text": "Ask [name]."}]
    for done, says in ((open_, False), (closed, True)):
        assert ("Every text went through" in (done.folder / "README.md").read_text()) is says


def test_every_text_of_an_episode_is_asked_about_once(play: Play) -> None:
    asked: list[str] = []
    won = told_everywhere(play)
    won.steps[1].note = ""
    seen = Redaction(lambda text: asked.append(text) or text.upper()).episode(won)  # type: ignore[func-returns-value]
    assert len(asked) == len(set(asked)) and "" not in asked
    names = {"id", "env", "split", "run", "arm", "engine", "adapter", "started_at", "recalled", "status", "prompt"}
    plain = won.model_dump(mode="json", exclude=names)

    def texts(value: Any) -> set[str]:
        if isinstance(value, dict):
            return {text for held in value.values() for text in texts(held)}
        if isinstance(value, list):
            return {text for held in value for text in texts(held)}
        return {value} if isinstance(value, str) else set()

    assert set(asked) == texts(plain) - {""}, "a text of a record that no redaction sees"
    assert SECRET not in seen.model_dump_json()


def test_an_episode_that_stays_as_it_was_keeps_its_tokens(
    lab: Lab, play: Play, read: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    won = play("won", "take coin", won=True, token_ids=[1, 2], action_spans=[(1, 2)])
    lab.database.episodes.put(won)
    folder = lab.export_episodes(tmp_path / "data", redact=hidden).folder
    assert [row["input_ids"] for row in read(folder, "sft_tokens")] == [[1, 2]]
    assert read(folder, "episodes")[0]["own_mask"] == [0, 1]


def test_two_answers_that_read_the_same_afterwards_are_no_pair(
    lab: Lab, play: Play, read: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    for episode in (play("won", "ask Ada", won=True), play("lost", "ask Bob")):
        lab.database.episodes.put(episode)

    def nameless(text: str) -> str:
        return text.replace("Ada", "X").replace("Bob", "X")

    assert read(lab.export_episodes(tmp_path / "data").folder, "preferences")
    assert not read(lab.export_episodes(tmp_path / "data", redact=nameless).folder, "preferences")


def broken(text: str) -> str:
    raise ValueError(f"no rule\nfor {len(text) > 0}")


def ends(text: str) -> str:
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (broken, r"an error of its own on a text of episode won \(ValueError: no rule for True\)"),
        (ends, "SystemExit"),
        (lambda text: None, "gave NoneType for a text of episode won"),
        (lambda text: text.encode(), "gave bytes"),
        (lambda text: text + "\ud800", "half a character"),
    ],
)
def test_where_it_fails_nothing_is_written(
    lab: Lab, play: Play, tmp_path: Path, function: Callable[[str], Any], why: str
) -> None:
    lab.database.episodes.put(play("won", "take coin", won=True))
    kept = lab.export_episodes(tmp_path / "kept").folder
    before = (kept / "README.md").read_bytes()
    for target in (kept, tmp_path / "new"):
        with pytest.raises(RedactionFailed, match=why) as raised:
            lab.export_episodes(target, redact=function)
        assert "\n" not in str(raised.value) and "Nothing was written" in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "lab"]
    assert (kept / "README.md").read_bytes() == before


def test_a_function_is_found_in_the_folder_that_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    (tmp_path / "rules_of_mine.py").write_text("def redact(text):\n    return text[::-1]\n")
    assert named("rules_of_mine:redact")("abc") == "cba"


@pytest.mark.parametrize(
    "name", ["", "json", "json:", ":dumps", "json:nothing", "json:__name__", "no_such_module:f", "a b:c"]
)
def test_a_name_that_is_no_functions_is_one_line(name: str) -> None:
    with pytest.raises(BadConfig, match="cannot be used") as raised:
        named(name)
    assert "\n" not in str(raised.value)
