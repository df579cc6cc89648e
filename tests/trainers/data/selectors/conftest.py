"""Pools of episodes for the tests of selectors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memory.records import Episode
from trainers.data.selectors import Selected, Selection, Selector
from trainers.data.selectors.base import Context

MakeEpisode = Callable[..., Episode]
Run = Callable[..., Selection]


@pytest.fixture
def run() -> Run:
    """Applies a selector to episodes, in a context with the given fields."""

    def apply(selector: Selector, episodes: list[Episode], **fields: object) -> Selection:
        pool = [Selected(episode=episode) for episode in episodes]
        return selector(pool, Context(**fields))  # type: ignore[arg-type]

    return apply
