from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentlab.errors import ReplayMismatch
from agentlab.search.tree import Tree, worth
from memory.records import Episode, ToolUse

Played = Callable[..., Episode]


def test_an_end_is_worth_one_if_won_nothing_if_lost_and_its_score_otherwise(played: Played) -> None:
    assert worth(played("east", "east", "east")) == 1.0
    assert worth(played("east", "west", "west")) == 0.0
    assert worth(played("east", "east")) == 0.5
    assert worth(played("east", score=0.7, status="lost")) == 0.0


def test_episodes_are_merged_where_they_begin_alike_and_their_worth_is_backed_up(played: Played) -> None:
    won, lost = played("east", "east", "east"), played("east", "west", "west")
    tree = Tree.of([won, lost, won])  # the same one twice counts once
    root = tree.root
    assert root is not None
    first = root.children["east"]
    assert (root.visits, first.visits) == (2, 2)
    assert (first.value, first.best) == (0.5, 1.0)
    assert sorted(first.children) == ["east", "west"]
    assert [node.to_win for node in tree.line(won)] == [3, 2, 1, 0]
    assert [node.to_win for node in tree.line(lost)] == [3, 2, None, None]
    assert first.children["west"].value == 0.0
    assert tree.line(won)[-1].ended and not first.ended
    assert tree.line(lost)[2].actions == ["east", "west"]


def test_all_nodes_come_parents_first(played: Played) -> None:
    tree = Tree.of([played("east", "east"), played("take lamp", "east"), played("east", "west")])
    assert [node.actions for node in tree.nodes()] == [
        [],
        ["east"],
        ["east", "east"],
        ["east", "west"],
        ["take lamp"],
        ["take lamp", "east"],
    ]
    assert list(Tree().nodes()) == []


def test_what_errored_or_was_relabelled_is_no_evidence(played: Played) -> None:
    tree = Tree.of([played("east", status="errored"), played("east", relabelled_from="ep-0")])
    assert tree.root is None and tree.episodes == []


def test_what_was_played_without_a_tool_or_could_ask_a_memory_had_other_commands(played: Played) -> None:
    whole, asking = played("east", "west"), played("east", "east")
    asking.steps[0].admissible.append("recall this task")
    without = played("east").model_copy(update={"tools": [ToolUse(tool="notes", held_out=True)]})
    assert without.without_tools and Tree.of([asking, whole, without]).episodes == [whole]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"result": "A dragon!"}, "after ['east']: the environment gave 'A dragon!' where it had given 'You east.'"),
        ({"next_state": "Lava."}, "after ['east']: the environment gave 'Lava.'"),
        ({"observation": "You wake."}, "at the start: the environment gave 'You wake.'"),
        ({"admissible": ["east", "up"]}, "at the start: the environment gave 'east, up' where it had given 'east, "),
    ],
)
def test_records_that_contradict_each_other_are_refused(played: Played, changes: dict[str, Any], told: str) -> None:
    episode = played("east", "east")
    step = episode.steps[0].model_copy(update=changes)
    other = episode.model_copy(update={"id": "ep-other", "steps": [step, episode.steps[1]]})
    with pytest.raises(ReplayMismatch) as caught:
        Tree.of([episode, other])
    assert told in str(caught.value)
    assert "not deterministic by seed" in str(caught.value)
