"""Selection by distribution shift."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from memory.records import Episode
from trainers.data.selectors import Importance, Selection
from trainers.data.selectors.experimental.importance import ds_weight, shift_extent
from trainers.errors import CannotSelect

MakeEpisode = Callable[..., Episode]
Run = Callable[..., Selection]


@pytest.mark.parametrize(
    ("loss", "weight", "extent"),
    # validation loss 1.2: 1.2/2.4 = 0.5 -> 1/0.5 = 2; 1.2/0.8 = 1.5 -> 1.5; 1.2/0.1 = 12 -> clipped to 2;
    # 1.2/12 = 0.1 -> min(1/0.1, 5) = 5; no shift -> 1.
    [(2.4, 0.5, 2.0), (0.8, 1.5, 1.5), (0.1, 2.0, 2.0), (12.0, 0.1, 5.0), (1.2, 1.0, 1.0), (0.0, 2.0, 2.0)],
)
def test_weight_and_extent_of_the_shift_are_those_worked_out_by_hand(loss: float, weight: float, extent: float) -> None:
    assert ds_weight(1.2, loss) == pytest.approx(weight)
    assert shift_extent(ds_weight(1.2, loss)) == pytest.approx(extent)


def test_where_validation_has_no_loss_the_shift_is_the_greatest() -> None:
    assert (ds_weight(0.0, 1.0), shift_extent(0.0)) == (0.0, 5.0)


def test_the_share_with_the_least_shift_is_kept(run: Run, make_episode: MakeEpisode) -> None:
    losses = {"same": 1.0, "easy": 0.5, "hard": 1.25, "odd": 4.0}
    episodes = [make_episode(name) for name in losses]
    trusted = [make_episode("v1"), make_episode("v2")]
    table = losses | {"v1": 0.5, "v2": 1.5}
    fields = {"loss": lambda episode: table[episode.id], "validation": trusted}
    # Extents: same 1, hard 1.25, easy 2, odd 4.
    result = run(Importance(), episodes, **fields)
    assert {item.episode.id for item in result.selected} == {"same", "hard", "easy"}
    assert result.left_out == {"shifted too far": 1}
    assert {item.episode.id for item in run(Importance(share=0.5), episodes, **fields).selected} == {"same", "hard"}
    assert len(run(Importance(share=0.01), episodes, **fields).selected) == 1
    weighed = run(Importance(weigh=True), episodes, **fields)
    assert {item.episode.id: item.weight for item in weighed.selected} == {"same": 1.0, "hard": 0.8, "easy": 2.0}


def test_a_loss_that_is_not_finite_leaves_an_episode_out_or_stops_if_it_is_the_scale(
    run: Run, make_episode: MakeEpisode
) -> None:
    episodes = [make_episode("fine"), make_episode("bad")]

    def loss(episode: Episode) -> float:
        return math.nan if episode.id == "bad" else 1.0

    result = run(Importance(share=1.0), episodes, loss=loss, validation=[episodes[0]])
    assert [item.episode.id for item in result.selected] == ["fine"]
    assert result.left_out == {"loss is not finite": 1}
    with pytest.raises(CannotSelect, match="mean loss nan"):
        run(Importance(), episodes, loss=loss, validation=episodes)
    with pytest.raises(CannotSelect, match=r"Context\.validation"):
        run(Importance(), episodes, loss=loss)
