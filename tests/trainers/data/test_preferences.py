"""Of two episodes with a common beginning, what follows it is compared; and who says which is better."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from memory.prompts import rendering
from memory.records import Episode
from trainers.data.preferences import Preference, by_reward, by_votes, fork, from_outcome, from_preference
from trainers.errors import BadExample

MakeEpisode = Callable[..., Episode]

HEAD = "Task: Find the coin.\n"


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def text(ids: list[int]) -> str:
    return "".join(map(chr, ids))


@pytest.fixture
def won(make_episode: MakeEpisode) -> Episode:
    return make_episode("won", actions=("north", "east", "take coin"))


@pytest.fixture
def lost(make_episode: MakeEpisode) -> Episode:
    return make_episode("lost", actions=("north", "west", "sleep", "sleep"), status="lost", score=0.25)


@pytest.fixture
def preference(won: Episode, lost: Episode) -> Preference:
    return Preference(better=won, worse=lost, shared=1, weight=0.75, source="reward")


def test_all_that_follows_the_shared_steps_is_compared(preference: Preference) -> None:
    pair = from_preference(preference, letters)
    better, worse = pair.better, pair.worse
    assert text(better.token_ids) == HEAD + "A room.\n> north\nRoom 1.\n> east\nRoom 2.\n> take coin\n"
    assert [text(better.token_ids[a:b]) for a, b in better.spans] == [" east\n", " take coin\n"]
    assert [text(worse.token_ids[a:b]) for a, b in worse.spans] == [" west\n", " sleep\n", " sleep\n"]
    assert (pair.weight, better.episode, worse.episode) == (0.75, "won", "lost")
    assert text(better.token_ids[: pair.shared]) == HEAD + "A room.\n> north\nRoom 1.\n> "


def test_a_single_step_a_side_can_be_compared(preference: Preference) -> None:
    pair = from_preference(preference, letters, steps=1)
    assert text(pair.better.token_ids) == HEAD + "A room.\n> north\nRoom 1.\n> east\n"
    assert text(pair.worse.token_ids) == HEAD + "A room.\n> north\nRoom 1.\n> west\n"
    assert len(pair.spans) == 2


def test_the_tokens_are_those_that_were_played(preference: Preference) -> None:
    def played(episode: Episode) -> Episode:
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for segment in rendering.segments(episode):
            piece = [token + 1000 * segment.chosen for token in letters(segment.text)]
            if segment.chosen:
                spans.append((len(ids), len(ids) + len(piece)))
            ids += piece
        return episode.model_copy(update={"token_ids": ids, "action_spans": spans})

    real = Preference(better=played(preference.better), worse=played(preference.worse), shared=1, source="reward")
    pair = from_preference(real, letters)
    assert (pair.better.token_ids, pair.worse.token_ids) == (real.better.token_ids, real.worse.token_ids)


def test_both_sides_answer_the_prompt_of_the_better_one(won: Episode, lost: Episode) -> None:
    hinted = lost.model_copy(update={"hints": "Coins are east."})
    preference = Preference(better=won, worse=hinted, shared=1, source="reward")
    for with_hints in (False, True):
        pair = from_preference(preference, letters, with_hints=with_hints)
        assert "Coins" not in text(pair.worse.token_ids) and text(pair.worse.token_ids).startswith(HEAD)


def test_both_sides_lose_the_same_old_steps_where_the_longer_one_does_not_fit(preference: Preference) -> None:
    whole = from_preference(preference, letters)
    pair = from_preference(preference, letters, max_tokens=len(whole.worse) - 1)
    assert text(pair.better.token_ids) == HEAD + "Room 1.\n> east\nRoom 2.\n> take coin\n"
    assert text(pair.worse.token_ids).startswith(HEAD + "Room 1.\n> west\n")
    assert pair.better.spans[0][0] == pair.worse.spans[0][0] == len(HEAD + "Room 1.\n>")


def test_what_is_compared_must_fit(preference: Preference) -> None:
    with pytest.raises(BadExample, match="raise max_tokens"):
        from_preference(preference, letters, max_tokens=40)


def test_steps_that_are_the_same_on_both_sides_are_no_preference(won: Episode, lost: Episode) -> None:
    with pytest.raises(BadExample, match="nothing to prefer"):
        from_preference(Preference(better=won, worse=lost, shared=0, source="reward"), letters, steps=1)


@pytest.mark.parametrize(("shared", "reason"), [(3, "need a step after"), (2, "not the same"), (-1, "greater than")])
def test_a_preference_needs_a_common_beginning_and_something_after_it(
    won: Episode, lost: Episode, shared: int, reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        Preference(better=won, worse=lost, shared=shared, source="reward")


def test_an_outcome_is_desirable_if_the_game_was_won(won: Episode, lost: Episode) -> None:
    good, bad = from_outcome(won, letters), from_outcome(lost, letters, weight=0.5, step_weights=[0, 1, 0, 1])
    assert (good.desirable, bad.desirable, bad.weight) == (True, False, 0.5)
    assert [text(bad.example.token_ids[a:b]) for a, b in bad.spans] == [" west\n", " sleep\n"]


def test_episodes_part_where_they_act_differently_in_the_same_place(won: Episode, lost: Episode) -> None:
    assert fork(won, lost) == 1
    assert fork(won, won) is None
    assert fork(won, lost.model_copy(update={"goal": "Sleep."})) is None
    elsewhere = [lost.steps[0], lost.steps[1].model_copy(update={"observation": "A bog."}), *lost.steps[2:]]
    assert fork(won, lost.model_copy(update={"steps": elsewhere})) is None


def test_won_episodes_are_preferred_to_those_lost_later_forks_first(
    make_episode: MakeEpisode, won: Episode, lost: Episode
) -> None:
    early = make_episode("early", actions=("south",), status="truncated", score=0.0)
    late = make_episode("late", actions=("north", "east", "sleep"), status="lost", score=0.5)
    made = by_reward([early, lost, won, late])
    assert [(p.better.id, p.worse.id, p.shared, p.weight) for p in made] == [
        ("won", "late", 2, 0.5),
        ("won", "lost", 1, 0.75),
        ("won", "early", 0, 1.0),
    ]
    assert [p.worse.id for p in by_reward([late, won, early, lost], per_task=2)] == ["late", "lost"]
    assert {p.source for p in made} == {"reward"}


def test_every_lost_episode_is_used_once_against_the_success_that_is_closest(
    make_episode: MakeEpisode, won: Episode, lost: Episode
) -> None:
    other = make_episode("other", actions=("south", "take coin"))
    assert [(p.better.id, p.worse.id) for p in by_reward([won, other, lost])] == [("won", "lost")]


@pytest.mark.parametrize(
    "change",
    [{"split": "test"}, {"status": "errored"}, {"seed": 1}, {"score": 1.0}, {"steps": []}],
    ids=lambda change: next(iter(change)),
)
def test_what_cannot_be_compared_makes_no_preference(won: Episode, lost: Episode, change: dict[str, object]) -> None:
    assert by_reward([won, lost.model_copy(update=change)]) == []


def ended(make_episode: MakeEpisode, id: str, action: str, **fields: object) -> Episode:
    episode = make_episode(id, actions=("north", action), **fields)
    last = episode.steps[1].model_copy(update={"next_state": f"after {action}"})
    return episode.model_copy(update={"steps": [episode.steps[0], last]})


def test_votes_weigh_the_most_common_answer_against_the_rarest(make_episode: MakeEpisode) -> None:
    actions = ["east", "east", "east", "west", "west", "sleep"]
    pool = [ended(make_episode, f"e{n}", action, status="lost") for n, action in enumerate(actions)]
    (made,) = by_votes(pool)
    assert (made.better.actions[-1], made.worse.actions[-1], made.shared, made.source) == ("east", "sleep", 1, "votes")
    assert made.weight == pytest.approx((3 - 1) / 6)


def test_votes_need_a_clear_answer(make_episode: MakeEpisode) -> None:
    pool = [ended(make_episode, f"e{n}", action) for n, action in enumerate(["east", "east", "west", "sleep", "dig"])]
    assert by_votes(pool) == []
    assert [p.weight for p in by_votes(pool, threshold=0.4)] == pytest.approx([0.2])
    assert by_votes([pool[0], pool[2]]) == [] == by_votes(pool[:2])


def test_what_counts_as_an_answer_can_be_told(make_episode: MakeEpisode) -> None:
    pool = [ended(make_episode, f"e{n}", action) for n, action in enumerate(["east", "enter", "west"])]
    (made,) = by_votes(pool, answer=lambda episode: episode.actions[-1][0])
    assert (made.worse.id, made.weight) == ("e2", pytest.approx(1 / 3))
