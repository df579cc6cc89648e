"""The pages of episodes: the list, one of them step by step, and two beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast, get_args
from urllib.parse import quote

from agentlab.views.episodes import FACETS, FORMS, EpisodeList, episodes
from agentlab.views.replay import SideBySide, side_by_side
from agentlab.web.asked import Asked, BadAddress
from agentlab.web.page import Forward, Page, Tab
from agentlab.workspace.workspace import Workspace
from memory.store import Sort

TAB = Tab("Episodes", "episodes")

TRANSCRIPT = 50
"""Steps of a whole transcript on one page."""

EXPORTED = 200
"""Episodes whose transcripts are exported, the newest."""


def _episodes(lab: Workspace, asked: Asked) -> EpisodeList:
    return episodes(
        lab,
        {name: asked.maybe(name) for name in FACETS},
        run=asked.maybe("run"),
        task=asked.maybe("task"),
        goal=asked.maybe("goal"),
        form=asked.choice("form", FORMS, "played"),
        sort=cast(Sort, asked.choice("sort", get_args(Sort), "newest")),
        offset=asked.number("offset", 0),
    )


def _replay(lab: Workspace, asked: Asked) -> SideBySide:
    whole = asked.maybe("whole") is not None
    step = asked.number("offset", 0) if whole else asked.number("step", 0)
    return side_by_side(lab, asked.text("id"), asked.maybe("beside"), step, most=TRANSCRIPT if whole else 1)


def _ticked(asked: Asked) -> tuple[str, Mapping[str, str]]:
    ticked = list(dict.fromkeys(asked.text("episode").split("\n")))
    if len(ticked) != 2 or not all(ticked):
        raise BadAddress(f"{len(ticked)} episodes are ticked; tick two, and they stand beside each other.")
    return f"/episodes/{quote(ticked[0], safe='')}", {"beside": ticked[1]}


def _exported(lab: Workspace) -> Iterator[Mapping[str, str]]:
    for row in lab.database.episodes.find(limit=EXPORTED, newest=True):
        yield {"id": row.id, "whole": "1"}


EPISODES = Page("/episodes", "episodes.html", _episodes, TAB, lambda view: "Episodes")
BESIDE = Forward("/episodes/beside", _ticked)
REPLAY = Page("/episodes/{id}", "replay.html", _replay, TAB, lambda view: cast(SideBySide, view).episode.id, _exported)
