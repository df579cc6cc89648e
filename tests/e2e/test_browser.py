"""The screens in a real Chromium: journeys by keyboard alone, without scripts, live, with hostile text, on a phone."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("playwright")

import itertools

import uvicorn
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright
from starlette.routing import compile_path

from agentlab.engines.scripted import ScriptedEngine
from agentlab.lab import Lab
from agentlab.web.app import application
from agentlab.web.pages import PAGES, TABS
from agentlab.web.safety import Access

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]

WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 780}
FORMED = {"/rounds/{id}/beside": "/rounds/round-2/beside?other=round-1"}
"""What a form leads to."""

POISONED = [
    "/episodes/ep-poison", "/memory/r-poison", "/comparisons/poison", "/rounds/round-3", "/adapters/adapter-poison",
    "/tools", "/episodes?env=%3Cscript%3E", "/memory?q=%3Cscript%3Ealert(1)%3C/script%3E", "/?done=%3Cimg%20src=x%3E",
]  # fmt: skip


class Screens:
    """The screens of a lab at an address, served by a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = socket.create_server(("127.0.0.1", 0))
        port = self.socket.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.made = application(folder, Access(port=port))
        config = uvicorn.Config(self.made.asgi(), log_level="warning", access_log=False)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        for lab in self.made.labs:
            lab.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=root)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Path], Screens]]:
    opened: list[Screens] = []

    def served(folder: Path) -> Screens:
        opened.append(Screens(folder))
        return opened[-1]

    yield served
    for one in opened:
        one.close()


@pytest.fixture(scope="module")
def screens(build: Callable[[Path], Path], serve: Callable[[Path], Screens], tmp_path_factory: Any) -> Screens:
    """The screens of a lab in which something is on every page."""
    return serve(build(tmp_path_factory.mktemp("browser") / "lab"))


@pytest.fixture
def look(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens an address; afterwards nothing must have left for elsewhere, failed, or been refused by the policy."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def opened(screens: Screens, path: str = "/", **settings: Any) -> Page:
        context = browser.new_context(**{"viewport": WIDE, **settings})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on(
            "console",
            lambda said: wrong.append(said.text) if said.type == "error" and "status of" not in said.text else None,
        )
        page.on(
            "request", lambda request: request.url.startswith((screens.address, "data:")) or wrong.append(request.url)
        )
        page.goto(screens.address + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


def links(page: Page) -> list[str]:
    """Where a page leads to, as addresses of this server."""
    found = page.eval_on_selector_all("a[href]", "all => all.map(one => one.getAttribute('href'))")
    return [address.partition("#")[0] for address in found if address.startswith("/")]


def addresses(page: Page, screens: Screens) -> dict[str, str]:
    """One address of each page, found by following links from Home; some are reached by a form."""
    patterns = {one.path: compile_path(one.path)[0] for one in PAGES if one.path not in FORMED}
    found = dict(FORMED)
    waiting = ["/"]
    while waiting:
        address = waiting.pop(0)
        path = urlsplit(address).path
        if path.endswith((".json", ".csv", ".md")):
            continue
        name = next((name for name, pattern in patterns.items() if pattern.match(path)), None)
        if name is None or name in found:
            continue
        found[name] = address
        page.goto(screens.address + address)
        waiting += links(page)
    return found


def tab_to(page: Page, target: Locator, most: int = 250) -> None:
    """Have the keyboard's focus on an element, by the tab key alone."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if target.evaluate("one => one === document.activeElement"):
            return
    raise AssertionError(f"the tab key does not reach {target}")


def follow(page: Page, target: Locator) -> None:
    """Open a link by the keyboard, and wait for its page."""
    page.wait_for_load_state()
    before = page.url
    tab_to(page, target)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: url != before)


def go(page: Page, letter: str) -> None:
    """To a page of the navigation by its key."""
    page.wait_for_load_state()  # keys are heard from then on
    before = page.url
    page.keyboard.press("g")
    page.keyboard.press(letter)
    page.wait_for_url(lambda url: url != before)


def serious(page: Page) -> list[str]:
    """What axe finds that keeps people out."""
    from axe_core_python.sync_playwright import Axe

    found = Axe().run(page)["violations"]
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]


# -- every page


def test_every_page_is_reached_by_links_and_axe_finds_nothing_serious_in_light_and_dark(
    screens: Screens, look: Callable[..., Page]
) -> None:
    found = addresses(look(screens), screens)
    assert set(found) == {page.path for page in PAGES} - {"/episodes/beside"}  # which leads on at once
    problems = []
    for scheme in ("light", "dark"):
        page = look(screens, color_scheme=scheme)
        for address in found.values():
            page.goto(screens.address + address)
            problems += [f"{scheme} {address}: {problem}" for problem in serious(page)]
    assert not problems


def test_on_a_phone_nothing_scrolls_sideways(screens: Screens, look: Callable[..., Page]) -> None:
    page = look(screens, viewport=PHONE)
    wide = {}
    for address in addresses(page, screens).values():
        page.goto(screens.address + address)
        width = page.evaluate("document.scrollingElement.scrollWidth")
        if width > PHONE["width"]:
            wide[address] = width
    assert not wide


def test_every_page_reads_without_scripts(screens: Screens, look: Callable[..., Page]) -> None:
    with_scripts = look(screens)
    found = addresses(with_scripts, screens)
    page = look(screens, java_script_enabled=False)
    for address in found.values():
        page.goto(screens.address + address)
        expect(page.locator("main h1")).to_be_visible()
        shown = page.locator("main").inner_text()
        with_scripts.goto(screens.address + address)
        words = set(re.findall(r"\w{4,}", with_scripts.locator("main h1").first.inner_text()))
        assert words <= set(re.findall(r"\w{4,}", shown)) and len(shown) > 20, address


def test_every_page_has_one_title_and_its_headings_in_order(screens: Screens, look: Callable[..., Page]) -> None:
    page = look(screens)
    for address in addresses(page, screens).values():
        page.goto(screens.address + address)
        levels = page.eval_on_selector_all("main :is(h1,h2,h3,h4)", "all => all.map(one => Number(one.tagName[1]))")
        assert levels and levels[0] == 1 and levels.count(1) == 1, address
        assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels)), (address, levels)


# -- at work


def test_a_lab_that_is_being_written_is_live_within_two_seconds(
    build: Callable[[Path], Path], serve: Any, look: Callable[..., Page], tmp_path: Path
) -> None:
    screens = serve(build(tmp_path / "lab"))
    page = look(screens)
    page.evaluate("window.same = true")
    with Lab.open(screens.folder, engine=ScriptedEngine({}), progress=False) as lab:
        lab.database.episodes.count()
        lab.progress.start("Playing <b>games</b>", 40)
        lab.progress.say("A word.")
        expect(page.get_by_text("Playing <b>games</b>")).to_be_visible(timeout=3000)
        assert page.evaluate("window.same")  # no reload
        expect(page.get_by_text("A word.")).to_be_visible()
    expect(page.get_by_text("Nobody writes to this lab now")).to_be_visible(timeout=3000)


def test_an_empty_lab_says_what_fills_each_page(serve: Any, look: Callable[..., Page], tmp_path: Path) -> None:
    from agentlab.workspace.config import LabConfig

    with Lab.open(
        tmp_path / "lab",
        create=True,
        config=LabConfig(embedder="hashing"),
        engine=ScriptedEngine({}),
        progress=False,
    ):
        pass
    screens = serve(tmp_path / "lab")
    page = look(screens)
    for _, path in TABS:
        page.goto(screens.address + path)
        expect(page.locator("main h1")).to_be_visible()
        assert "agentlab " in page.locator("main").inner_text(), path
        assert not serious(page), path


# -- hostile text


def test_hostile_text_in_every_field_shows_as_text(
    build: Callable[[Path], Path], poison: Callable[[Path], str], serve: Any, look: Callable[..., Page], tmp_path: Path
) -> None:
    folder = build(tmp_path / "lab")
    text = poison(folder)
    screens = serve(folder)
    page = look(screens)
    found = addresses(page, screens)
    hidden = re.compile("[\x1b\u202a-\u202e\u2066-\u2069]")
    seen = 0
    # The poisoned records are the newest, or else the first of their lists.
    for address in [*found.values(), *POISONED]:
        page.goto(screens.address + address)
        shown = page.locator("body").inner_text()
        seen += text in shown
        assert not hidden.search(shown), address
        assert page.locator("main :is(img, script, iframe, object, embed, base, [onload], [onerror])").count() == 0
        assert page.evaluate("document.title.includes('AgentLab')"), address
        assert page.evaluate("document.scrollingElement.scrollWidth") <= WIDE["width"], address
    assert seen >= 5


# -- by the keyboard


def test_the_keys_lead_to_every_page_and_their_list_opens_and_closes(
    screens: Screens, look: Callable[..., Page]
) -> None:
    page = look(screens)
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    letters = page.eval_on_selector_all("a[data-go]", "all => all.map(one => [one.dataset.go, one.pathname])")
    assert len({letter for letter, _ in letters}) == len(TABS)
    for letter, target in letters[1:]:
        go(page, letter)
        assert urlsplit(page.url).path == target


def test_the_first_tab_leads_past_the_navigation(screens: Screens, look: Callable[..., Page]) -> None:
    page = look(screens)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def type_into(page: Page, field: Locator, text: str) -> None:
    """Write into a field by the keyboard."""
    tab_to(page, field)
    page.keyboard.press("Control+A")
    page.keyboard.type(text)


def test_from_a_cell_of_a_comparison_to_a_lost_game_its_steps_its_reflection_and_benching_and_undoing_that(
    build: Callable[[Path], Path], serve: Any, look: Callable[..., Page], tmp_path: Path
) -> None:
    screens = serve(build(tmp_path / "lab"))
    page = look(screens)
    go(page, "c")
    follow(page, page.get_by_role("link", name="table", exact=True))
    row = page.locator("tr", has=page.get_by_role("rowheader", name="base + memory", exact=True))
    follow(page, row.get_by_test_id("cell").first)
    lost = page.get_by_test_id("games").locator("td.chosen a", has_text="not won")
    follow(page, lost.first)
    expect(page.get_by_role("heading", level=1)).to_contain_text("ep-")
    # The step where it went wrong: the last one, here by the arrow key.
    while page.get_by_test_id("next").count():
        before = page.url
        page.keyboard.press("ArrowRight")
        page.wait_for_url(lambda url, before=before: url != before)
    expect(page.locator("main")).to_contain_text("lost")
    born = page.get_by_test_id("born").first.get_by_role("link").first
    follow(page, born)
    assert "/memory/" in page.url
    expect(page.get_by_test_id("text")).not_to_be_empty()
    tab_to(page, page.get_by_test_id("verb"))
    page.keyboard.type("forget")
    type_into(page, page.locator("form.act input[name=reason]").first, "It misleads.")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("done")).to_be_visible()
    expect(page.locator(".status").first).to_have_text("forgotten")
    expect(page.locator("main")).to_contain_text("It misleads.")
    tab_to(page, page.get_by_test_id("undo-last"))
    page.keyboard.press("Enter")
    expect(page.locator(".status").first).not_to_have_text("forgotten")


def test_benching_what_was_ticked_asks_for_a_reason_and_is_undone_under_changes(
    build: Callable[[Path], Path], serve: Any, look: Callable[..., Page], tmp_path: Path
) -> None:
    screens = serve(build(tmp_path / "lab"))
    page = look(screens)
    go(page, "m")
    boxes = page.locator("input[name=id]")
    for number in (0, 1):
        tab_to(page, boxes.nth(number))
        page.keyboard.press("Space")
    tab_to(page, page.get_by_test_id("mend"))
    before = page.url
    page.keyboard.press("Enter")  # without a reason the browser itself refuses, and leads to the field
    assert page.url == before and not page.get_by_test_id("done").count()
    expect(page.get_by_test_id("reason")).to_be_focused()
    page.keyboard.type("Both are wrong.")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("done")).to_be_visible()
    expect(page.locator("table.memory .status.benched")).to_have_count(2)
    go(page, "n")
    expect(page.locator("main")).to_contain_text("Both are wrong.")
    undo = page.get_by_role("button", name=re.compile("^Undo")).first
    tab_to(page, undo)
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("done")).to_be_visible()
    go(page, "m")
    expect(page.locator("table.memory .status.benched")).to_have_count(0)


def test_from_the_gate_of_a_round_to_the_game_that_got_worse_both_replays_beside_each_other(
    screens: Screens, look: Callable[..., Page]
) -> None:
    page = look(screens)
    go(page, "r")
    follow(page, page.get_by_role("link", name="round-2", exact=True).first)
    worse = page.get_by_test_id("gate-worse").first
    follow(page, worse.get_by_role("link", name="side by side"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("beside")
    expect(page.locator("main .status.lost").first).to_be_visible()
    expect(page.locator("main .status.won").first).to_be_visible()
    follow(page, page.get_by_test_id("differs"))
    assert "step=" in page.url


def test_from_an_adapter_to_the_reflections_behind_it_and_back(screens: Screens, look: Callable[..., Page]) -> None:
    page = look(screens)
    go(page, "a")
    follow(page, page.get_by_role("link", name="adapter-good", exact=True).first)
    follow(page, page.get_by_test_id("reflections"))
    first = page.locator("table.memory td.words a").first
    follow(page, first)
    follow(page, page.get_by_test_id("taught").get_by_role("link", name="adapter-good"))
    expect(page.get_by_role("heading", level=1)).to_have_text("adapter-good")


def test_a_search_is_a_key_away_and_its_address_can_be_shared(screens: Screens, look: Callable[..., Page]) -> None:
    page = look(screens)
    go(page, "m")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "search"
    page.keyboard.type("coin")
    page.keyboard.press("Enter")
    page.wait_for_url("**search=coin**")
    total = page.get_by_test_id("total").inner_text()
    page.keyboard.press("j")
    assert page.locator("tr[data-chosen]").count() == 1
    page.keyboard.press("Enter")
    page.wait_for_url("**/memory/*")
    page.go_back()
    assert page.get_by_test_id("total").inner_text() == total
    shared = look(screens, urlsplit(page.url).path + "?" + urlsplit(page.url).query)
    assert shared.get_by_test_id("total").inner_text() == total


def test_two_episodes_that_are_ticked_stand_beside_each_other(screens: Screens, look: Callable[..., Page]) -> None:
    page = look(screens)
    go(page, "e")
    boxes = page.locator("input[name=episode]")
    names = [boxes.nth(number).get_attribute("value") for number in (0, 2)]
    for number in (0, 2):
        tab_to(page, boxes.nth(number))
        page.keyboard.press("Space")
    tab_to(page, page.get_by_test_id("beside"))
    page.keyboard.press("Enter")
    page.wait_for_url("**beside=**")
    for name in names:
        expect(page.get_by_role("link", name=name).first).to_be_visible()


def test_episodes_are_narrowed_by_their_facets_and_back_leads_back(screens: Screens, look: Callable[..., Page]) -> None:
    page = look(screens)
    go(page, "e")
    before = page.get_by_test_id("total").inner_text()
    page.goto(screens.address + "/")
    won = page.locator("#live a[href$='status=won']").first
    follow(page, won)
    total = page.get_by_test_id("total").inner_text()
    assert total != before
    assert set(page.locator("[data-testid=episodes] tbody .status").all_inner_texts()) == {"won"}
