"""What a lab lived, as a data set: whole, by folds, and in the forms that are trained on."""

from __future__ import annotations

import gc
import hashlib
import sys
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet as files

from agentlab.datasets import parquet
from agentlab.errors import BadConfig, MissingPackage
from agentlab.lab import Lab
from memory.prompts import messages
from memory.records import Episode, Reflection, Usage
from memory.store import episodes as stored
from trainers.adapters.record import AdapterRecord
from trainers.data import SelectionConfig, select
from trainers.lineage import Lineage

Play = Callable[..., Episode]
Read = Callable[..., list[dict[str, Any]]]


def put(lab: Lab, *episodes: Episode) -> None:
    for episode in episodes:
        lab.database.episodes.put(episode)


def tokens(episode: Episode) -> Episode:
    """The episode with a token for its head, and for each step one that was read and two that were chosen."""
    ids, spans = [7], []
    for index in range(len(episode.steps)):
        ids += [10 + index, 100 + index, 200 + index]
        spans.append((len(ids) - 2, len(ids)))
    return episode.model_copy(update={"token_ids": [*ids, 8], "action_spans": spans})


def test_an_episode_is_exported_with_all_that_is_known_of_it(lab: Lab, play: Play, read: Read, tmp_path: Path) -> None:
    episode = tokens(
        play("e", "go east", "take coin", won=True, engine="m", hints="Mind the door.", recalled=["r-1", "r-gone"],
             usage=Usage(input_tokens=5, cost=0.25), prompt="chat+thought", arm="base + memory", trial=2)
    )  # fmt: skip
    first = episode.steps[0]
    first.thought, first.note, first.reward, first.logprob = "East, then.", "Helped before: go east.", 0.5, -0.1
    first.scores, first.bonus, first.token_ids, first.logprobs = (
        [-0.1, None, -3.0],
        [0.0, 1.0, 0.0],
        [4, 5],
        [-1.0, 0.0],
    )
    put(lab, episode)
    lab.memory.remember([Reflection(id="r-1", kind="written", env="toy/doors", task="t", text="Doors bite.")])
    for name, round in (("adapter-1", "round-1"), ("adapter-2", None)):
        lineage = Lineage(round=round, episodes=["e", "e"])
        lab.adapters.records.put(AdapterRecord(id=name, base="b", fingerprint="f", path="p", lineage=lineage))
    (row,) = read(lab.export_episodes(tmp_path / "data").folder, "episodes")
    plain = episode.model_dump(mode="json")
    for name in ("id", "env", "split", "seed", "trial", "run", "arm", "engine", "adapter", "prompt", "goal", "hints",
                 "status", "score", "token_ids", "started_at", "minimised_from", "relabelled_from"):  # fmt: skip
        assert row[name] == plain[name], name
    assert (row["task"], row["won"], row["reward"]) == (episode.task_id, True, 0.5)
    assert row["own_mask"] == [0, 0, 1, 1, 0, 1, 1, 0]
    assert row["usage"] == {"input_tokens": 5, "output_tokens": 0, "seconds": 0.0, "cost": 0.25}
    assert [(one["role"], one["content"]) for one in row["messages"]] == [m[:2] for m in messages(episode)]
    assert "Mind the door." in row["messages"][0]["content"]
    for told, step in zip(row["steps"], episode.steps, strict=True):
        assert told.pop("commands") == step.admissible
        assert told == {name: getattr(step, name) for name in told} and len(told) == 13
    assert row["recalled"] == [
        {"reflection": "r-1", "text": "Doors bite."},
        {"reflection": "r-gone", "text": ""},
    ]
    assert row["trained"] == [{"adapter": "adapter-1", "round": "round-1"}, {"adapter": "adapter-2", "round": None}]


def test_no_column_is_forgotten_and_the_card_explains_each(lab: Lab, play: Play, tmp_path: Path) -> None:
    put(lab, tokens(play("e", "take coin", won=True, adapter="a", error="x", error_kind="actor",
                         minimised_from="o", relabelled_from="o")))  # fmt: skip
    folder = lab.export_episodes(tmp_path / "data").folder
    table = files.read_table(folder / "episodes" / "train.parquet")
    card = (folder / "README.md").read_text(encoding="utf-8")
    step = table.schema.field("steps").type.value_type
    for name in [*table.column_names, *(field.name for field in step)]:
        assert f"`{name}`" in card, f"the card says nothing of {name}"
    empty = {name for name in table.column_names if table[name].null_count}
    assert empty == set(), "a name that no row has"


def test_the_folds_are_the_splits(lab: Lab, play: Play, read: Read, tmp_path: Path) -> None:
    put(lab, *(play(f"e-{fold}", "go east", split=fold) for fold in ("train", "dev", "test")))
    done = lab.export_episodes(tmp_path / "data")
    for split, fold in (("train", "train"), ("validation", "dev"), ("test", "test")):
        assert [row["id"] for row in read(done.folder, "episodes", split)] == [f"e-{fold}"]
    assert done.rows == {"episodes": {"train": 1, "validation": 1, "test": 1}}
    assert "validation" in str(done)


def test_what_did_not_come_to_its_end_is_left_out_unless_it_is_asked_for(
    lab: Lab, play: Play, read: Read, tmp_path: Path
) -> None:
    put(lab, play("lost", "go east"), play("broken", "go east", status="errored", error="It broke."))
    assert [row["id"] for row in read(lab.export_episodes(tmp_path / "data").folder, "episodes")] == ["lost"]
    asked = lab.export_episodes(tmp_path / "errors", status="errored").folder
    assert [(row["id"], row["error"]) for row in read(asked, "episodes")] == [("broken", "It broke.")]


def test_what_an_earlier_version_stored_without_a_score_did_not_come_to_its_end(
    lab: Lab, play: Play, read: Read, tmp_path: Path
) -> None:
    put(lab, play("lost", "go east"), play("unscored", "go east"))
    payload = play("unscored", "go east").model_dump_json().replace('"score":0.0,"steps"', '"score":null,"steps"')
    assert "null" in payload
    lab.database.connection.execute(
        "UPDATE episodes SET payload = ? WHERE id = 'unscored'", (zlib.compress(payload.encode()),)
    )
    assert [row["id"] for row in read(lab.export_episodes(tmp_path / "data").folder, "episodes")] == ["lost"]


def test_only_what_is_wanted_is_exported_in_every_form(lab: Lab, play: Play, read: Read, tmp_path: Path) -> None:
    for seed in range(2):
        put(
            lab,
            tokens(play(f"won-{seed}", "take coin", won=True, seed=seed)),
            play(f"lost-{seed}", "go east", seed=seed),
        )
    put(lab, play("other", "take coin", won=True, seed=9, run="other"))
    done = lab.export_episodes(tmp_path / "data", task="toy/doors:train:1")
    assert {row["id"] for row in read(done.folder, "episodes")} == {"won-1", "lost-1"}
    assert [row["episode"] for row in read(done.folder, "sft")] == ["won-1"]
    assert [row["episode"] for row in read(done.folder, "sft_tokens")] == ["won-1"]
    assert [(row["better"], row["worse"]) for row in read(done.folder, "preferences")] == [("won-1", "lost-1")]
    assert "task `toy/doors:train:1`" in (done.folder / "README.md").read_text()
    assert lab.export_episodes(tmp_path / "run", run="other").rows == {"episodes": {"train": 1}, "sft": {"train": 1}}


def test_nothing_of_dev_and_test_games_is_in_what_is_trained_on(
    lab: Lab, play: Play, read: Read, tmp_path: Path
) -> None:
    for fold in ("dev", "test"):
        put(lab, tokens(play(f"won-{fold}", "take coin", won=True, split=fold, goal=fold)),
            play(f"lost-{fold}", "go east", split=fold, goal=fold))  # fmt: skip
    assert lab.export_episodes(tmp_path / "data").rows == {"episodes": {"validation": 2, "test": 2}}
    put(lab, tokens(play("won", "take coin", won=True)), play("lost", "go east"))
    assert set(lab.export_episodes(tmp_path / "all").rows) == {"episodes", "sft", "sft_tokens", "preferences"}
    assert lab.export_episodes(tmp_path / "dev", split="dev").rows == {"episodes": {"validation": 2}}


def test_what_begins_like_a_held_out_game_is_not_trained_on(lab: Lab, play: Play, read: Read, tmp_path: Path) -> None:
    for seed, goal in enumerate(("played", "looked at", "new")):
        put(
            lab,
            play(f"won-{goal}", "take coin", won=True, seed=seed, goal=goal),
            play(f"lost-{goal}", "go east", seed=seed, goal=goal),
        )
    put(lab, play("dev", "go east", split="dev", goal="played"))
    lab.database.journal.put("starts|toy/doors|test", "4", {"goal": "looked at", "observation": "Start."})
    done = lab.export_episodes(tmp_path / "data")
    assert [row["episode"] for row in read(done.folder, "sft")] == ["won-new"]
    assert [row["better"] for row in read(done.folder, "preferences")] == ["won-new"]
    assert done.left_out["sft"]["begins like a held-out game"] == 2
    assert done.rows["episodes"]["train"] == 6


def test_the_wins_are_those_that_a_round_would_select(lab: Lab, play: Play, read: Read, tmp_path: Path) -> None:
    played = [
        play(
            f"won-{seed}-{trial}-{way}", f"go {way}", "take coin", won=True, seed=seed, trial=trial, goal=f"{seed // 2}"
        )
        for seed in range(8)
        for trial in range(3)
        for way in ("east", "west", "north")
    ]
    refined = [
        one.model_copy(update={"id": f"short-{one.id}", "steps": one.steps[1:], "minimised_from": one.id})
        for one in played[::4]
    ]
    others = [play("lost", "go east"), play("hindsight", "look", won=True, relabelled_from="lost", goal="Look.")]
    put(lab, *played, *refined, *others)
    done = lab.export_episodes(tmp_path / "data")
    chosen = select([*played, *refined, *others], SelectionConfig(cap_per_env=None), seed=0)
    assert len(chosen) > 5
    assert [row["episode"] for row in read(done.folder, "sft")] == [item.episode.id for item in chosen]
    assert done.left_out["sft"]["no success of its own"] == 1, "what was lost is not looked at"


def test_a_win_is_taught_without_what_memory_said(lab: Lab, play: Play, read: Read, tmp_path: Path) -> None:
    won = play("won", "go east", "take coin", won=True, hints="Doors bite.")
    won.steps[1].note = "Helped before: take coin."
    put(lab, won)
    (row,) = read(lab.export_episodes(tmp_path / "data").folder, "sft")
    said = [one["content"] for one in row["messages"]]
    assert not any("bite" in text or "Helped" in text for text in said)
    assert [one["role"] for one in row["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert said[2::2] == ["go east", "take coin"] and "go east; go west; take coin" in said[1]


def test_thoughts_are_taught_where_every_step_has_one(lab: Lab, play: Play, read: Read, tmp_path: Path) -> None:
    for seed, thoughts in enumerate((("East.", "Coin!"), ("East.", ""))):
        won = play(
            f"won-{seed}", "go east", "take coin", won=True, seed=seed, goal=str(seed), prompt="transcript+thought"
        )
        for step, thought in zip(won.steps, thoughts, strict=True):
            step.thought = thought
        put(lab, won)
    rows = {row["episode"]: row for row in read(lab.export_episodes(tmp_path / "data").folder, "sft")}
    assert [one["content"] for one in rows["won-0"]["messages"]][2::2] == [
        "Thought: East.\nAction: go east",
        "Thought: Coin!\nAction: take coin",
    ]
    assert [one["content"] for one in rows["won-1"]["messages"]][2::2] == ["go east", "take coin"]
    assert "Thought" not in rows["won-1"]["messages"][0]["content"]


def test_an_action_that_was_not_admissible_is_never_taught(lab: Lab, play: Play, read: Read, tmp_path: Path) -> None:
    won = tokens(play("won", "sing", "take coin", won=True))
    won.steps[0].invalid = True
    put(lab, won)
    done = lab.export_episodes(tmp_path / "data")
    assert read(done.folder, "sft") == [] and done.left_out["sft"] == {"not admissible in each action": 1}
    (row,) = read(done.folder, "sft_tokens")
    assert row["input_ids"] == won.token_ids and row["assistant_masks"] == [0, 0, 0, 0, 0, 1, 1, 0]
    (whole,) = read(done.folder, "episodes")
    assert whole["own_mask"] == [0, 0, 1, 1, 0, 1, 1, 0]


def test_an_action_of_which_the_tokens_are_not_known_is_not_taught(
    lab: Lab, play: Play, read: Read, tmp_path: Path
) -> None:
    won = tokens(play("won", "sing", "take coin", won=True))
    won.steps[0].invalid, won.action_spans = True, [(2, 7)]
    put(lab, won)
    done = lab.export_episodes(tmp_path / "data")
    assert read(done.folder, "sft_tokens") == []
    assert done.left_out["sft_tokens"] == {"without the tokens of a model": 1}


def test_tokens_are_those_that_were_played_and_say_whether_memory_spoke(
    lab: Lab, play: Play, read: Read, tmp_path: Path
) -> None:
    won = tokens(play("won", "go east", "take coin", won=True, engine="m", adapter="a"))
    told = tokens(play("told", "take coin", won=True, seed=4, hints="Doors bite."))
    noted = tokens(play("noted", "take coin", won=True, seed=5, goal="another"))
    noted.steps[0].note = "Helped before: take coin."
    short = won.model_copy(update={"id": "short", "steps": won.steps[1:], "token_ids": [], "action_spans": [],
                                   "minimised_from": "won"})  # fmt: skip
    put(lab, won, told, noted, short, play("chance", "take coin", won=True, seed=6, goal="by chance"))
    done = lab.export_episodes(tmp_path / "data")
    rows = {row["episode"]: row for row in read(done.folder, "sft_tokens")}
    assert {id: row["with_memory"] for id, row in rows.items()} == {"won": False, "told": True, "noted": True}
    assert rows["won"]["input_ids"] == won.token_ids and rows["won"]["assistant_masks"] == [0, 0, 1, 1, 0, 1, 1, 0]
    assert (rows["won"]["engine"], rows["won"]["adapter"]) == ("m", "a")
    assert {row["episode"] for row in read(done.folder, "sft")} == {"short", "told", "noted", "chance"}
    assert done.left_out["sft_tokens"] == {"without the tokens of a model": 1}


def test_a_pair_is_the_step_at_which_two_attempts_part(lab: Lab, play: Play, read: Read, tmp_path: Path) -> None:
    won = play("won", "go east", "take coin", "look", won=True, hints="Doors bite.")
    put(lab, won, play("lost", "go east", "go west", "go east"))
    (row,) = read(lab.export_episodes(tmp_path / "data").folder, "preferences")
    assert [one["role"] for one in row["prompt"]] == ["system", "user", "assistant", "user"]
    assert row["prompt"][1]["content"].startswith("Task: Find the coin.") and "bite" not in row["prompt"][0]["content"]
    assert row["prompt"][3]["content"] == "Start. After go east.\nCommands: go east; go west; take coin"
    assert row["chosen"] == [{"role": "assistant", "content": "take coin"}]
    assert row["rejected"] == [{"role": "assistant", "content": "go west"}]
    assert (row["better"], row["worse"], row["shared"], row["weight"]) == ("won", "lost", 1, 1.0)


def test_what_nobody_played_or_was_asked_for_is_compared_with_nothing(
    lab: Lab, play: Play, read: Read, tmp_path: Path
) -> None:
    won, short = play("won", "look", "go east", won=True), play("short", "go east", won=True, minimised_from="won")
    hindsight = play("hindsight", "go west", "look", won=True, relabelled_from="lost")
    put(lab, won, short, hindsight, play("lost", "go west", "go west"))
    (row,) = read(lab.export_episodes(tmp_path / "data").folder, "preferences")
    assert (row["better"], row["chosen"][0]["content"]) == ("won", "look")


def test_a_pair_has_thoughts_where_both_sides_have(lab: Lab, play: Play, read: Read, tmp_path: Path) -> None:
    for seed, thoughts in enumerate((("Coin!", "West."), ("Coin!", ""))):
        sides = play("won", "take coin", won=True), play("lost", "go west", "go east")
        for side, thought in zip(sides, thoughts, strict=True):
            side.steps[0].thought, side.seed, side.id, side.prompt = thought, seed, f"{side.id}-{seed}", "chat+thought"
        put(lab, *sides)
    rows = {row["better"]: row for row in read(lab.export_episodes(tmp_path / "data").folder, "preferences")}
    answers = {id: (row["chosen"][0]["content"], row["rejected"][0]["content"]) for id, row in rows.items()}
    assert answers["won-0"] == ("Thought: Coin!\nAction: take coin", "Thought: West.\nAction: go west")
    assert answers["won-1"] == ("take coin", "go west")
    assert "Thought" in rows["won-0"]["prompt"][0]["content"] and "Thought" not in rows["won-1"]["prompt"][0]["content"]


def test_what_was_not_admissible_is_not_preferred(lab: Lab, play: Play, read: Read, tmp_path: Path) -> None:
    won = play("won", "sing", "take coin", won=True)
    won.steps[0].invalid = True
    put(lab, won, play("lost", "go west"))
    assert read(lab.export_episodes(tmp_path / "data").folder, "preferences") == []


def test_of_very_many_attempts_the_first_are_compared(
    lab: Lab, play: Play, read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentlab.datasets.choosing.COMPARED", 2)
    broken = [play(f"broken-{n}", "go west", status="errored") for n in range(2)]
    lost = [play(f"lost-{n}", "go west", *["go east"] * n) for n in range(5)]
    put(lab, play("won", "take coin", won=True), *broken, *lost)
    rows = read(lab.export_episodes(tmp_path / "data").folder, "preferences")
    assert {row["worse"] for row in rows} == {"lost-0", "lost-1"}


def test_a_long_lab_is_never_held_in_memory(
    lab: Lab, play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        ended = {"won": bool(number % 2), "seed": number // 4, "trial": number % 4}
        put(lab, tokens(play(f"e-{number}", "go east", f"go {number}", "take coin", **ended)))
    alive, most, made = [0], 0, stored._episode

    def gone() -> None:
        alive[0] -= 1

    def watched(payload: bytes) -> Episode:
        nonlocal most
        episode = made(payload)
        weakref.finalize(episode, gone)
        alive[0] += 1
        most = max(most, alive[0])
        return episode

    monkeypatch.setattr(stored, "_episode", watched)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 50)
    gc.disable()  # what goes only with a collection counts
    try:
        done = lab.export_episodes(tmp_path / "data")
    finally:
        gc.enable()
    assert done.rows["episodes"] == {"train": 300} and done.rows["sft_tokens"]["train"] > 100
    assert most <= 3 * stored.AT_ONCE
    groups = files.ParquetFile(done.folder / "episodes" / "train.parquet").metadata
    assert [groups.row_group(place).num_rows for place in range(groups.num_row_groups)] == [50] * 6


def test_a_group_of_long_rows_ends_early(lab: Lab, play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_BYTES", 100_000)
    put(lab, *(play(f"e-{number}", "look", goal="x" * 20_000, seed=number) for number in range(40)))
    done = lab.export_episodes(tmp_path / "data")
    assert files.ParquetFile(done.folder / "episodes" / "train.parquet").metadata.num_row_groups == 4


def test_a_lab_is_only_read_and_beside_its_writer(
    open_lab: Callable[..., Lab], play: Play, read: Read, tmp_path: Path
) -> None:
    writer = open_lab()
    put(writer, play("first", "go east"))

    def contents() -> dict[str, str]:
        paths = (path for path in writer.folder.rglob("*") if path.is_file() and path.name != "lab.db-shm")
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    before = contents()
    with Lab.open(writer.folder, write=False) as reader:
        later = play("later", "go west", won=True)
        done = reader.export_episodes(tmp_path / "data", redact=lambda text: put(writer, later) or text)
        assert [row["id"] for row in read(done.folder, "episodes")] == ["first"], "as it was when it began"
        assert not read(done.folder, "sft")
        assert [row["id"] for row in read(reader.export_episodes(done.folder).folder, "episodes")] == ["first", "later"]
    assert before.keys() == contents().keys()
    after = contents()
    with Lab.open(writer.folder, write=False) as reader:
        reader.export_episodes(done.folder)
    assert contents() == after


def test_without_an_episode_nothing_is_written(lab: Lab, play: Play, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="nothing was written"):
        lab.export_episodes(tmp_path / "data")
    put(lab, play("e", "go east"))
    with pytest.raises(BadConfig, match="nothing was written"):
        lab.export_episodes(tmp_path / "data", arm="none")
    assert [path.name for path in tmp_path.iterdir()] == ["lab"]


def test_without_pyarrow_one_line_says_how_to_get_it(
    lab: Lab, play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(lab, play("e", "go east"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackage, match=r"pip install 'agentlab\[parquet\]'"):
        lab.export_episodes(tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["lab"]


def test_the_mask_of_what_a_model_really_played_is_on_its_actions(
    open_at: Callable[..., Lab], tiny_model: Path, read: Read, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    with open_at(tmp_path / "lab") as played:
        played.run("toy/doors", arm="base + memory", seeds=range(2), trials=2)
        folder = played.export_episodes(tmp_path / "data").folder
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = [row for row in read(folder, "episodes") if row["engine"] and row["token_ids"]]
    assert len(rows) >= 2
    for row in rows:
        whole = tokenizer.decode(row["token_ids"])
        assert whole.startswith(f"Task: {row['goal']}\n") and row["steps"][-1]["observation"] in whole
        own = [token for token, mine in zip(row["token_ids"], row["own_mask"], strict=True) if mine]
        assert tokenizer.decode(own) == "".join(f" {step['action']}\n" for step in row["steps"])
