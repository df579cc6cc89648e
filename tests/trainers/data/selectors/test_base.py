"""What holds of every selector, and of the chance that they share."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from memory.records import Episode
from trainers.data.selectors import (
    Cap,
    Context,
    Dedupe,
    Diversity,
    Importance,
    Rehearsal,
    Selected,
    Selection,
    Selector,
    Shortest,
    Spread,
    StepValues,
    Text,
    Threshold,
    Uncertainty,
    Votes,
    Won,
    chain,
)
from trainers.data.selectors.base import sample, start_of, starts_of
from trainers.errors import CannotSelect

MakeEpisode = Callable[..., Episode]

EVERY: list[Selector] = [
    Won(),
    Threshold(at=[0.5]),
    Votes(by="actions", min_share=0.1),
    Importance(weigh=True),
    Uncertainty(),
    StepValues(),
    Cap(per_task=3, per_env=9),
    Dedupe(),
    Diversity(keep=2),
    Shortest(tolerance=0.2),
    Spread(per_env=7),
    Rehearsal(new=0.5, replay=0.3, general=0.1, anchor=0.1, size=12),
]


@pytest.fixture
def pool(make_episode: MakeEpisode) -> list[Selected]:
    """48 episodes of six tasks in two environments: won and lost, of few lengths, so that there are many ties."""
    rng = random.Random(3)
    made = []
    for n in range(48):
        won = rng.random() < 0.6
        episode = make_episode(
            f"e{n}",
            env=f"game/{n % 2}",
            seed=n % 6,
            start=f"Start {n % 6}.",
            trial=n % 4,
            actions=tuple(rng.choices("ab", k=rng.randint(1, 5))),
            status="won" if won else "lost",
            score=1.0 if won else rng.choice([0.0, 0.5]),
        )
        steps = [0.5] * len(episode.steps)
        made.append(Selected(episode=episode, weight=rng.choice([1.0, 2.0]), step_weights=steps))
    return made


@pytest.fixture
def context(pool: list[Selected]) -> Context:
    return Context(
        seed=1,
        round=4,
        history={f"e{n}": 1 + n % 3 for n in range(24)},
        loss=lambda episode: 0.1 + len(episode.steps) / 4,
        validation=[item.episode for item in pool[:5]],
        passes=lambda episode, count, dropout: [-0.1 * (1 + i % len(episode.steps)) for i in range(count)],
        anchors=[item.episode for item in pool[-4:]],
        general=[Text(completion=f"Text {n}.") for n in range(9)],
    )


def seen(selection: Selection) -> list[object]:
    return [(item.episode.id, item.weight, item.step_weights) for item in selection.selected]


@pytest.mark.parametrize("selector", EVERY, ids=lambda selector: selector.kind)
def test_the_order_in_which_episodes_come_changes_nothing(
    selector: Selector, pool: list[Selected], context: Context
) -> None:
    first = selector(pool, context)
    assert first.selected
    for shuffle in range(5):
        shuffled = list(pool)
        random.Random(shuffle).shuffle(shuffled)
        again = selector(shuffled, context)
        assert seen(again) == seen(first)
        assert (again.left_out, again.short_of, again.texts) == (first.left_out, first.short_of, first.texts)


@pytest.mark.parametrize("selector", EVERY, ids=lambda selector: selector.kind)
def test_every_episode_is_either_selected_or_left_out_for_a_reason(
    selector: Selector, pool: list[Selected], context: Context
) -> None:
    result = selector(pool, context)
    assert len(result.selected) + sum(result.left_out.values()) == len(pool)
    assert len({item.episode.id for item in result.selected}) == len(result.selected)


@pytest.mark.parametrize("selector", EVERY, ids=lambda selector: selector.kind)
def test_the_weights_that_episodes_came_with_are_kept_or_multiplied(
    selector: Selector, pool: list[Selected], context: Context
) -> None:
    given = {item.episode.id: item for item in pool}
    ones = [item.model_copy(update={"weight": 1.0, "step_weights": None}) for item in pool]
    # What a selector multiplies by is what it makes of episodes that all weigh 1.
    factors = {item.episode.id: item for item in selector(ones, context).selected}
    for item in selector(pool, context).selected:
        before = given[item.episode.id]
        assert item.step_weights is not None and before.step_weights is not None
        if item.episode.id in factors:
            factor = factors[item.episode.id]
            assert item.weight == pytest.approx(before.weight * factor.weight)
            steps = factor.step_weights or [1.0] * len(before.step_weights)
            assert item.step_weights == pytest.approx([0.5 * step for step in steps])


@pytest.mark.parametrize("selector", EVERY, ids=lambda selector: selector.kind)
def test_an_empty_pool_stays_empty(selector: Selector, context: Context) -> None:
    result = selector([], context)
    assert {item.episode.id for item in result.selected} <= {episode.id for episode in context.anchors}
    assert result.left_out == {}


@pytest.mark.parametrize(
    ("selector", "field"),
    [(Importance(), "loss"), (Uncertainty(), "passes")],
    ids=["importance", "uncertainty"],
)
def test_a_selector_without_the_scores_it_needs_says_which(
    selector: Selector, field: str, pool: list[Selected]
) -> None:
    with pytest.raises(CannotSelect, match=f"Context.{field}"):
        selector(pool, Context())


def test_steps_follow_each_other_and_their_counts_add_up(make_episode: MakeEpisode) -> None:
    episodes = [
        make_episode("lost", status="lost", score=0.0),
        make_episode("a", actions=("x",)),
        make_episode("b", actions=("x",), seed=1),
        make_episode("c", actions=("y",)),
        make_episode("d", actions=("z",)),
    ]

    def no_c(pool: list[Selected], context: Context) -> Selection:
        kept = [item for item in pool if item.episode.id != "c"]
        return Selection(selected=kept, left_out={"not won": len(pool) - len(kept)}, short_of={"new": 2})

    steps: list[Selector] = [Won(), Dedupe(), no_c]  # type: ignore[list-item]
    result = chain([Selected(episode=episode) for episode in episodes], steps, Context())
    assert len(result.selected) == 2 and {item.episode.id for item in result.selected} > {"d"}
    assert result.left_out == {"not won": 2, "duplicate": 1}
    assert result.short_of == {"new": 2}


def test_a_sample_depends_on_each_name_and_not_on_the_company_it_keeps() -> None:
    weights = dict.fromkeys("abcdefghij", 1.0)
    few = sample(weights, 3, 0, "")
    without = sample({name: weight for name, weight in weights.items() if name in few or name < "e"}, 3, 0, "")
    assert len(few) == 3 and without == few
    assert {frozenset(sample(weights, 3, seed, "")) for seed in range(9)} != {frozenset(few)}
    assert sample(weights, 3, 0, "other|") != few


def test_a_sample_takes_names_in_proportion_to_their_weights() -> None:
    taken = [sample({"heavy": 3.0, "light": 1.0, "never": 0.0}, 1, seed, "").pop() for seed in range(2000)]
    assert taken.count("heavy") / 2000 == pytest.approx(0.75, abs=0.04)
    assert "never" not in taken
    assert sample({"a": 1.0, "never": 0.0}, 5, 0, "") == {"a"}


def test_an_episode_is_found_among_games_that_begin_like_it_whatever_blanks_are_around(
    make_episode: MakeEpisode,
) -> None:
    begins = starts_of([("Find the coin.\n", " A cellar. "), ("Find the coin.", "A hall.")])
    assert start_of(make_episode("same", start="A cellar.\n")) in begins
    assert start_of(make_episode("other", start="A room.")) not in begins
