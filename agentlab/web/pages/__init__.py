"""The pages of a lab, the changes that can be made on them, and the navigation between them."""

from __future__ import annotations

from agentlab.web.page import Action, Page, Tab
from agentlab.web.pages.comparisons import COMPARISON, COMPARISONS
from agentlab.web.pages.episodes import BESIDE, EPISODES, REPLAY
from agentlab.web.pages.home import HOME

PAGES: tuple[Page, ...] = (HOME, EPISODES, BESIDE, REPLAY, COMPARISONS, COMPARISON)

ACTIONS: tuple[Action, ...] = ()

TABS: tuple[tuple[Tab, str], ...] = tuple({page.tab: page.path for page in reversed(PAGES)}.items())[::-1]
"""Each entry of the navigation, with the first page that belongs to it."""
