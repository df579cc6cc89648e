"""Novelty: recalled text is not stored again as if it were news."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from memory import Advice, Episode, Reflection
from memory.text.novelty import novel, said_in

HINTS = "- Coins are found in the kitchen.\n- The safe door is the one that the note names."


def drawn(text: str, advice: list[Advice] | None = None) -> Reflection:
    return Reflection(id="r", kind="written", env="toy/doors", task="t", text=text, advice=advice or [])


def test_a_text_that_was_recalled_in_the_episode_is_dropped_however_it_is_written(
    episode: Callable[..., Episode],
) -> None:
    lived = episode(hints=HINTS)
    for text in ("Coins are found in the kitchen.", '"coins are found  in the\nKitchen!"', HINTS, "the safe door"):
        assert novel([drawn(text)], lived) == []


def test_what_is_new_or_was_not_recalled_stays(episode: Callable[..., Episode]) -> None:
    news = [drawn("Coins are found in the cellar."), drawn("Kitchens hold coins."), drawn("The safe do"), drawn("!")]
    assert novel(news, episode(hints=HINTS)) == news
    assert novel(news, episode()) == news


def test_advice_from_the_steps_stays_without_the_repeated_text(
    episode: Callable[..., Episode], advice: Callable[..., Advice]
) -> None:
    (kept,) = novel([drawn("Coins are found in the kitchen.", [advice()])], episode(hints=HINTS))
    assert (kept.text, kept.advice) == ("", [advice()])
    empty = drawn("", [advice()])
    assert novel([empty], episode(hints=HINTS)) == [empty]


@given(st.text(min_size=1, max_size=60), st.text(max_size=30), st.text(max_size=30))
def test_no_text_that_stood_in_the_memory_block_is_ever_novel(text: str, before: str, after: str) -> None:
    lived = Episode(id="e", run="r", env="v", split="train", seed=0, hints=f"{before}\n- {text}\n{after}")
    worded = any(character.isalnum() for character in text)
    assert novel([drawn(text)], lived) == [] or not worded


def test_words_are_said_where_they_stand_whole_and_in_their_order() -> None:
    assert said_in("the Red, door!", "Open the red door.")
    assert not said_in("red door", "The door is red.") and not said_in("red", "It was redder.")
