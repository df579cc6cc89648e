from __future__ import annotations

import pytest

from agentlab.web.asked import LONGEST, Asked, BadAddress


def test_a_value_is_read_without_its_blanks_and_an_empty_one_is_none() -> None:
    asked = Asked({"env": " twx/coin ", "arm": "  "})
    assert asked.text("env") == "twx/coin"
    assert asked.maybe("arm") is None and asked.maybe("nothing") is None
    assert asked.text("arm", "memory") == "memory"


def test_a_value_that_is_longer_than_anything_that_is_looked_for_is_refused() -> None:
    assert Asked({"q": "a" * LONGEST}).text("q")
    with pytest.raises(BadAddress, match="'q'"):
        Asked({"q": "a" * (LONGEST + 1)}).text("q")


@pytest.mark.parametrize("text", ["-1", "1.5", "1e9", "٣", "²", "0x10", "9" * 30, "99", "1 2", "None", "1_0"])
def test_a_number_that_is_none_or_out_of_its_bounds_is_refused(text: str) -> None:
    with pytest.raises(BadAddress) as refused:
        Asked({"offset": text}).number("offset", 0, most=50)
    assert "\n" not in str(refused.value) and "50" in str(refused.value)


def test_a_number_within_its_bounds_is_read() -> None:
    assert Asked({"offset": "50"}).number("offset", 0, most=50) == 50
    assert Asked({}).number("offset", 7) == 7


def test_a_word_is_one_of_those_that_may_be_chosen() -> None:
    asked = Asked({"sort": "age", "order": "; DROP TABLE episodes"})
    assert asked.choice("sort", ("age", "uplift")) == "age"
    assert asked.choice("other", ("age", "uplift"), "uplift") == "uplift"
    with pytest.raises(BadAddress, match="age, uplift"):
        asked.choice("order", ("age", "uplift"))


def test_the_same_address_with_some_values_changed() -> None:
    asked = Asked({"env": "a&b=c#d", "offset": "50", "done": "x"})
    assert asked.query(offset=100, done=None) == "?env=a%26b%3Dc%23d&offset=100"
    assert Asked({}).query() == ""
    assert Asked({"a": "1"}).query(a=None) == ""


def test_what_stands_in_the_path_is_not_repeated_in_the_query_and_a_file_has_none() -> None:
    asked = Asked({"id": "ep-1", "step": "3"}, frozenset({"id"}))
    assert asked.text("id") == "ep-1" and asked.query(step=4) == "?step=4"
    assert Asked({"id": "ep-1", "step": "3"}, frozenset({"id"}), as_file=True).query(step=4) == ""
