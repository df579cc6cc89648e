from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentlab.cli import app
from agentlab.cli.memory_screens import difference, word_difference
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig
from memory.records import Advice, Episode, Evidence, Link, Recall, Reflection, Step

RUNNER = CliRunner()
TEXT = (
    "Read the note in the first room before you open any door: it names the one that is safe, and behind each of the "
    "others the game is lost at once, however many points there were."
)


def step(index: int, action: str, result: str) -> Step:
    known = {"index": index, "observation": "o", "state": "s", "admissible": [action], "next_state": "n"}
    return Step.model_validate(known | {"action": action, "result": result})


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as opened:
        steps = [step(0, "read note", "The red door is safe, and no other one. " * 3), step(1, "go", "You go.")]
        opened.database.episodes.put(
            Episode(id="ep-0123456789ab", run="one", env="toy/doors", split="train", seed=1, status="won", steps=steps)
        )
        opened.memory.remember(
            [
                Reflection(
                    id="r-0123456789ab",
                    kind="grounded",
                    env="toy/doors",
                    task="toy/doors:train:1",
                    text=TEXT,
                    tags=["door"],
                    evidence=[
                        Evidence(episode="ep-0123456789ab", steps=[0]),
                        Evidence(episode="ep-gone", steps=[4, 5]),
                    ],
                    advice=[
                        Advice(
                            state=f"You see \x1b[2J{n} doors. {'A cupboard. ' * 9}",
                            action="open red door",
                            visits=2,
                            lost=1,
                            blame=0.5,
                        )
                        for n in range(14)
                    ],
                ),
                Reflection(id="r-other", kind="written", env="toy/doors", task="toy/doors:train:2", text="Look first."),
            ]
        )
        opened.memory.edit("r-0123456789ab", TEXT.replace("at once", "then and there"))
        opened.memory.pin("r-0123456789ab")
        opened.database.links.put([Link(source="r-other", target="r-0123456789ab", kind="similar", weight=0.875)])
        opened.database.recalls.put(
            [
                Recall(
                    episode=f"ep-{n:012}",
                    reflection="r-0123456789ab",
                    rank=n,
                    query="You are in a hall.",
                    score=1.25,
                    env="toy/doors",
                    held_out=n % 2 == 1,
                    propensity=0.5,
                    won=None if n == 4 else n == 0,
                )
                for n in range(5)
            ]
        )
    return folder


def shown(lab: Path, *arguments: str, columns: int = 0) -> str:
    env = {"COLUMNS": str(columns)} if columns else {}
    result = RUNNER.invoke(app, ["memory", *arguments, "--lab", str(lab)], env=env)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_reflection_is_shown_with_its_sources_versions_links_recalls_and_effect(lab: Path) -> None:
    text = shown(lab, "show", "r-01")
    for part in (
        "Source: ep-0123456789ab (steps 0), toy/doors:train:1, trial 0, won",
        "> read note  The red door is safe",
        "Source: ep-gone (steps 4–5)",
        "not kept here",
        "[-at once,-] {+then and there,+}",
        "pinned: no → yes",
        "←  r-other  similar  weight 0.88",
        "won 1 of 2 served, 0 of 2 held out",
        "served 3 episodes, won 1 of 2 ended; held out from 2",
        "held out  not won    text #2, 1.25, asked: You are in a hall.",
        "served    not ended  text #5, 1.25",
        "open red door  tried 2×, worth 0.00, lost 1×, blame 0.50",
        "Advice on 2 more states",
    ):
        assert part in text
    assert "You go." not in text, "the step is no evidence"
    assert "\x1b" not in text


def test_what_was_merged_into_one_is_shown_with_it(lab: Path) -> None:
    with Lab.open(lab) as opened:
        merged = opened.database.reflections.get("r-other").model_copy(
            update={"status": "merged", "merged_into": "r-0123456789ab"}
        )
        opened.database.reflections.put(merged)
        opened.database.recalls.put(
            [
                Recall(episode=id, reflection="r-other", rank=0, query="q", score=0.5, won=True)
                for id in ("ep-x", "ep-y")
            ]
        )
    text = shown(lab, "show", "r-01")
    assert "served 5 episodes, won 3 of 4 ended; held out from 2, with 1 item merged into it" in " ".join(text.split())
    assert "text #1, 0.50, as r-other" in text


def test_one_without_history_is_shown_without_empty_sections(lab: Path) -> None:
    text = shown(lab, "show", "r-other")
    assert "not measured" in text
    assert "Never recalled." in text
    assert "as first written" in text
    for part in ("Advice", "Source:", "changed"):
        assert part not in text


@pytest.mark.parametrize("columns", [80, 120])
def test_the_screen_fits_the_terminal(lab: Path, columns: int) -> None:
    for arguments in (["show", "r-01"], ["stats"]):
        lines = shown(lab, *arguments, columns=columns).splitlines()
        assert max(map(len, lines)) <= columns
    joined = " ".join(shown(lab, "show", "r-01", columns=columns).split())
    assert TEXT.replace("at once", "then and there") in joined, "wrapped at words, and whole"
    assert ("asked: You are in a hall." in joined) == (columns >= 110)


def test_only_the_newest_recalls_are_shown_where_there_are_many(lab: Path) -> None:
    text = shown(lab, "show", "r-01", "--limit", "2")
    assert "The newest 2 of 5" in text
    assert "ep-000000000004" in text
    assert "ep-000000000002" not in text
    assert len(json.loads(shown(lab, "show", "r-01", "-n", "2", "--json"))["recalls"]) == 5


def test_a_reflection_as_json_is_complete(lab: Path) -> None:
    data = json.loads(shown(lab, "show", "r-01", "--json"))
    parts = {"reflection", "versions", "recalls", "evidence", "links", "uplift", "tally", "adapters", "on_probation"}
    assert set(data) == parts
    assert [version["change"] for version in data["versions"]] == ["remembered", "edited", "pinned"]
    assert data["versions"][0]["reflection"]["text"] == TEXT
    assert data["evidence"][0]["steps"][0]["action"] == "read note"
    assert data["links"][0]["source"] == "r-other"
    assert (data["uplift"]["served"], data["uplift"]["held_out_won"]) == (2, 0)
    assert len(data["reflection"]["advice"]) == 14


def test_the_health_of_the_memory_is_shown(lab: Path) -> None:
    text = " ".join(shown(lab, "stats").split())
    for part in (
        "items 2: active 2",
        "kinds grounded 1, written 1",
        "sources the agent 2",
        "pinned 1",
        "duplicates 0 exact",
        "near-duplicates 0 of 2 (0%) would be merged by `agentlab memory consolidate` (cosine ≥ 0.98)",
        "never recalled 1 of 2 active (50%)",
        "benched 0",
        "harmful 0",
        "no episodes of a model yet",
        "2 of 5 recalls held out (40%); cost about",
        "memory.faiss: flat, exact (a graph above",
        "database 0.",
    ):
        assert part in text


def test_the_share_of_the_prompt_and_harmful_items_are_named(lab: Path) -> None:
    with Lab.open(lab) as opened:
        opened.database.episodes.put(
            Episode(
                id="ep-hints",
                run="one",
                env="toy/doors",
                split="train",
                seed=2,
                engine="model",
                hints="Trust the note.",
                token_ids=[1] * 40,
            )
        )
        opened.database.recalls.put(
            [
                Recall(
                    episode=f"ep-{n}", reflection="r-other", rank=0, query="q", score=1, held_out=n < 20, won=n < 20,
                    env="toy/doors", propensity=0.5,
                )
                for n in range(40)
            ]
        )  # fmt: skip
    text = " ".join(shown(lab, "stats").split())
    assert "harmful 1 (uplift below 0): r-other" in text
    assert "the memory block takes about 77.5% of the tokens (all 1 episode, 1 with a block)" in text


def test_the_health_as_json_has_every_number(lab: Path) -> None:
    data = json.loads(shown(lab, "stats", "--json"))
    assert data["statuses"] == {"active": 2}
    assert data["repeats"] == {"exact": 0, "near": 0, "examined": 2, "items": 2, "cosine": 0.98}
    assert data["holding_out"]["held_out"] == 2
    assert data["index"]["items"] == 2


def test_an_empty_memory_has_a_health(tmp_path: Path) -> None:
    with Lab.open(tmp_path / "new", create=True, config=LabConfig(embedder="hashing")):
        pass
    text = " ".join(shown(tmp_path / "new", "stats").split())
    assert "items 0" in text
    assert "no recalls yet" in text
    assert "not written yet" in text


def test_a_difference_names_each_field_that_changed() -> None:
    before = Reflection(id="r", kind="written", env="e", task="t", text="a b", tags=["old", "same"], advice=[])
    after = before.model_copy(
        update={
            "text": "a c",
            "tags": ["same", "new"],
            "status": "merged",
            "merged_into": "r-2",
            "advice": [Advice(state="s", action="a")],
        }
    )
    assert difference(before, after) == (
        "text: a [-b-] {+c+}; advice: 0 → 1 entries; tags: [-old-] {+new+}; status: active → merged; "
        "merged_into: none → r-2"
    )
    assert difference(before, before.model_copy(update={"updated_at": "later"})) == "nothing"


def test_words_far_from_a_change_are_left_out() -> None:
    words = [f"w{n}" for n in range(30)]
    changed = [*words[:10], "NEW", *words[10:20], *words[21:]]
    assert word_difference(" ".join(words), " ".join(changed), context=2) == (
        "… w8 w9 {+NEW+} w10 w11 … w18 w19 [-w20-] w21 w22 …"
    )
    assert word_difference("", "all new") == "{+all new+}"
