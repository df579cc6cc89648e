"""The pages of a lab, the changes that can be made on them, and the navigation between them."""

from __future__ import annotations

from agentlab.web.page import Action, Forward, Page, SmallChange, Tab
from agentlab.web.pages.adapters import ADAPTER, ADAPTERS, PROMOTE, ROLL_BACK
from agentlab.web.pages.changes import CHANGE, CHANGES, UNDO
from agentlab.web.pages.comparisons import COMPARISON, COMPARISONS
from agentlab.web.pages.episodes import BESIDE, EPISODES, REPLAY
from agentlab.web.pages.home import HOME
from agentlab.web.pages.memory import MEMORY, MEND
from agentlab.web.pages.memory_item import ITEM, ITEM_ACTIONS
from agentlab.web.pages.rounds import EXAMPLE, EXAMPLES, ROUND, ROUNDS, TWO_ROUNDS
from agentlab.web.pages.tools import TOOLS

PAGES: tuple[Page, ...] = (
    *(HOME, EPISODES, REPLAY),
    *(MEMORY, ITEM),
    *(COMPARISONS, COMPARISON),
    *(ROUNDS, ROUND, TWO_ROUNDS, EXAMPLES, EXAMPLE),
    TOOLS,
    *(ADAPTERS, ADAPTER),
    *(CHANGES, CHANGE),
)

FORWARDS: tuple[Forward, ...] = (BESIDE,)

ACTIONS: tuple[Action | SmallChange, ...] = (PROMOTE, ROLL_BACK, MEND, *ITEM_ACTIONS, UNDO)

TABS: tuple[tuple[Tab, str], ...] = tuple({page.tab: page.path for page in reversed(PAGES)}.items())[::-1]
"""Each entry of the navigation, with the first page that belongs to it."""
