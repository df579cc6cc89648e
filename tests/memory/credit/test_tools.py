"""What a tool is worth is measured by lot: over one tool of a game, the same again, at a bounded cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from memory import CreditConfig, Database, Episode
from memory.credit import ToolCredit, ToolPlace
from memory.credit.tools import PRIOR
from memory.credit.uplift import estimate
from memory.records import ToolUse

ENV = "toy/doors?tools=ask+map"
HALF = CreditConfig(hold_out=0.5, max_cost=1.0)
TOOLS = ["map", "ask"]
PAST, PRESENT = "2026-01-01T00:00:00", "2026-02-01T00:00:00"


@pytest.fixture
def played(database: Database, episode: Callable[..., Episode]) -> Callable[..., None]:
    """Stores `n` episodes with a lot over `ask`, of which so many were won."""

    def put(side: str, won: int, n: int, *, odds: float = 0.5, at: str = PAST, adapter: str | None = None) -> None:
        use = ToolUse(tool="ask", held_out=side == "without", propensity=odds)
        with database.transaction():
            for number in range(n):
                database.episodes.put(
                    episode(
                        f"ep-{side}-{adapter}-{odds}-{at}-{number}", env=ENV, status="won" if number < won else "lost",
                        tools=[use, ToolUse(tool="map")], started_at=at, adapter=adapter, engine="tiny",
                    )
                )  # fmt: skip

    return put


def test_each_game_has_a_lot_over_one_of_its_tools_and_the_same_again(database: Database) -> None:
    lots = [ToolCredit(database, HALF).lot(ENV, TOOLS, "run", seed, 0) for seed in range(400)]
    again = [ToolCredit(database, HALF).lot(ENV, TOOLS[::-1], "run", seed, 0) for seed in range(400)]
    assert lots == again
    drawn = Counter((lot.reflection, lot.held_out) for lot in lots if lot is not None)
    assert drawn.total() == 400 and all(70 < drawn[tool, out] < 130 for tool in TOOLS for out in (True, False))
    assert {lot.propensity for lot in lots if lot is not None} == {0.5}
    other = [ToolCredit(database, HALF).lot(ENV, TOOLS, "other", seed, 0) for seed in range(400)]
    assert other != lots


def test_where_nothing_is_measured_no_lot_is_drawn(database: Database) -> None:
    assert ToolCredit(database, CreditConfig(hold_out=0.0)).lot(ENV, TOOLS, "run", 0) is None
    assert ToolCredit(database, HALF).lot(ENV, [], "run", 0) is None


def test_a_tool_that_is_worth_much_is_held_out_no_more_often_than_it_may_cost(
    database: Database, played: Callable[..., None]
) -> None:
    played("with", 95, 100)
    played("without", 5, 100)
    careful = ToolCredit(database, CreditConfig(hold_out=0.5, max_cost=0.05), before=PRESENT)
    lots = [careful.lot(ENV, ["ask"], "run", seed) for seed in range(1000)]
    out = sum(lot.held_out for lot in lots if lot is not None)
    assert 25 < out < 100, "about 1000 × .05 ÷ .9, its uplift"
    assert {lot.propensity for lot in lots if lot is not None} == {0.5, 1.0}
    assert not any(lot.held_out for lot in lots if lot is not None and lot.propensity == 1.0)
    # What was played since the run began does not change its lots.
    played("without", 100, 100, at=PRESENT)
    known = ToolCredit(database, careful.config, before=PRESENT)
    assert [known.lot(ENV, ["ask"], "run", seed) for seed in range(1000)] == lots


def test_the_worth_of_a_tool_is_the_difference_that_it_makes_for_each_who_plays(
    database: Database, played: Callable[..., None]
) -> None:
    played("with", 50, 100)
    played("without", 50, 100)
    played("with", 90, 100, adapter="adapter-1")
    played("without", 10, 100, adapter="adapter-1")
    played("with", 0, 50, odds=1.0)
    found = ToolCredit(database, HALF).uplifts()
    assert found.keys() == {
        ToolPlace("ask", ENV), ToolPlace("ask", ENV, "tiny"), ToolPlace("ask", ENV, "tiny", "adapter-1"),
    }  # fmt: skip
    base, adapter = found[ToolPlace("ask", ENV, "tiny")], found[ToolPlace("ask", ENV, "tiny", "adapter-1")]
    assert base.low < 0 < base.high and abs(base.mean) < 0.01
    assert 0.5 < adapter.low < adapter.mean < 0.8 and adapter.p < 1e-6
    both = found[ToolPlace("ask", ENV)]
    assert both.mean == pytest.approx((base.mean + adapter.mean) / 2, abs=1e-9)
    assert (both.served, both.served_won, both.held_out, both.held_out_won) == (200, 140, 200, 60)


def test_a_tool_that_decides_every_game_is_believed_to(database: Database, played: Callable[..., None]) -> None:
    played("with", 28, 28)
    played("without", 2, 32)
    worth = ToolCredit(database, HALF).uplifts()[ToolPlace("ask", ENV)]
    assert worth.low < 30 / 32 < worth.high and worth.mean > 0.85


@pytest.mark.parametrize("n", [10, 30])
@pytest.mark.parametrize("rates", [(0.97, 0.03), (0.9, 0.5), (0.8, 0.6), (0.5, 0.5)])
def test_its_interval_holds_what_a_tool_is_worth_as_often_as_it_says(n: int, rates: tuple[float, float]) -> None:
    chance = np.random.default_rng(0)
    won = chance.binomial(n, rates, (2000, 2))
    found = [estimate(np.array([[n, with_it, n, without]]), np.array([0.5]), PRIOR, 0.95) for with_it, without in won]
    held = np.mean([one.low <= rates[0] - rates[1] <= one.high for one in found])
    assert held > 0.93


def test_a_tool_that_was_never_held_out_has_no_worth(database: Database, played: Callable[..., None]) -> None:
    played("with", 5, 10)
    assert ToolCredit(database, HALF).uplifts() == {}
