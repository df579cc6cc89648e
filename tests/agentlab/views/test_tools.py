"""What is known of the tools of a lab's games, for a screen, a page and a command: the same in all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from agentlab.cli import app
from agentlab.engines.scripted import ScriptedEngine
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.learned_calls import EXAMPLES, LearnedCall, LearnedTool, learned
from agentlab.rounds.report import save
from agentlab.search.calls import Kept
from agentlab.views.tools import has_tools, tools
from agentlab.web.app import application
from agentlab.web.exporting import export
from agentlab.web.safety import Access
from environments.tools import register_tool, unregister_tool
from memory.records import Episode, Step
from tests.agentlab.agent.test_tool_credit import ENV, SEEDS, Oracle, Weather, asking

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module", autouse=True)
def kit() -> Iterator[None]:
    register_tool("oracle", Oracle)
    register_tool("weather", Weather)
    yield
    unregister_tool("oracle")
    unregister_tool("weather")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab in which games with tools were played, by chance and by a model, and a round learned to call."""
    from agentlab.workspace.config import LabConfig

    folder = tmp_path_factory.mktemp("tools") / "lab"
    config = LabConfig(embedder="hashing", threads=1, reflectors=[], hold_out=0.5, hold_out_cost=1.0)
    with Lab.open(folder, create=True, config=config, engine=ScriptedEngine(asking), progress=False) as lab:
        lab.run(ENV, seeds=SEEDS[:20], trials=1, arm="base", name="r")
        lab.run(ENV, seeds=SEEDS[:5], trials=1, arm="random", name="chance")
        for number, calls in ((1, 3), (2, 8)):
            example = LearnedCall(
                episode="ep-x", seed=7, step=2, seen=f"You see doors. {HOSTILE}", call="ask about doors",
                answer="The red door is safe.", action="open red door", gain=1.9,
            )  # fmt: skip
            taught = LearnedTool(tool="oracle", env=ENV, calls=calls, episodes=2, gain=1.5, examples=[example])
            config_of = RoundConfig(envs=[ENV])
            save(lab, RoundReport(id=f"round-{number}", number=number, config=config_of, tools=[taught], phase="done"))
    return folder


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    made = application(folder, Access(token="secret"))
    yield TestClient(made.asgi(), base_url="http://127.0.0.1")
    for one in made.labs:
        one.close()


def test_it_tells_who_called_what_how_often_and_what_that_is_worth(folder: Path) -> None:
    with Lab.open(folder, write=False, progress=False) as lab:
        found = tools(lab)
        rows = [row.id for row in lab.database.episodes.find() if not row.minimised_from]
        played = lab.database.episodes.load(rows)
    oracle, weather = found.tools
    assert (oracle.tool, oracle.env, weather.tool, found.hold_out) == ("oracle", ENV, "weather", 0.5)
    base, chance = sorted(oracle.callers, key=lambda one: one.player)
    assert (base.player, chance.player, base.episodes, chance.episodes) == ("base", "random", 20, 5)
    by_base = [one for one in played if one.engine != "random"]
    uses = [use for one in by_base for use in one.tools if use.tool == "oracle"]
    assert base.made == sum(use.made for use in uses) > 10 and base.proposed == sum(use.proposed for use in uses)
    calling = [one for one in by_base if any("ask" in action for action in one.actions)]
    assert (base.calling, base.won) == (len(calling), sum(one.won for one in calling))
    assert 0 < base.low < base.won / base.calling <= base.high
    assert base.held_out == sum("oracle" in one.without_tools for one in by_base)
    assert oracle.worth is not None and oracle.worth == base.worth and chance.worth is None
    drawn = [use for use in uses if use.propensity < 1]
    assert oracle.worth.n == len(drawn) and oracle.worth.low < oracle.worth.mean < oracle.worth.high
    assert set(oracle.newest) <= {one.id for one in played if "ask about doors" in one.actions}
    assert [(one.round, one.calls) for one in oracle.rounds] == [("round-2", 8), ("round-1", 3)]
    assert [example.round for example in oracle.examples] == ["round-2"] and not weather.rounds


def test_the_command_and_the_page_have_the_same_and_the_page_is_in_the_navigation(
    folder: Path, client: TestClient
) -> None:
    data = client.get("/tools.json").json()
    said = CliRunner().invoke(app, ["tools", "--lab", str(folder), "--json"])
    assert said.exit_code == 0 and json.loads(said.stdout) == data
    assert 'data-testid="tab-tools"' in client.get("/").text
    page = client.get("/tools").text
    assert "ask about doors" in page and "round-2" in page and "+1.90" in page
    assert page.count('data-testid="tool"') == 2 and HOSTILE not in page and "&lt;script&gt;alert" in page


def test_the_command_prints_what_was_learned_to_call_when(folder: Path) -> None:
    said = CliRunner().invoke(app, ["tools", "oracle", "--lab", str(folder)], env={"COLUMNS": "200"})
    assert said.exit_code == 0 and "weather" not in said.stdout.replace(ENV, "")
    for part in ("base", "random", "ask about doors", "open red door", "+1.90 nats", "8 calls in 2 episodes"):
        assert part in said.stdout, part
    none = CliRunner().invoke(app, ["tools", "hammer", "--lab", str(folder)])
    assert none.exit_code == 0 and "hammer" in none.stdout


def test_a_lab_without_such_games_has_no_such_page_in_its_navigation(
    open_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    lab = open_lab()
    lab.run("toy/doors", seeds=[0], trials=1, arm="random", name="r")
    assert not has_tools(lab) and tools(lab).tools == []
    lab.close()
    made = application(tmp_path / "lab", Access(token="secret"))
    client = TestClient(made.asgi(), base_url="http://127.0.0.1")
    assert "tab-tools" not in client.get("/").text
    page = client.get("/tools")
    assert page.status_code == 200 and "tools=" in page.text, "it says how there would be some"
    for one in made.labs:
        one.close()
    export(tmp_path / "lab", tmp_path / "out")
    assert not (tmp_path / "out" / "tools.html").exists()
    said = CliRunner().invoke(app, ["tools", "--lab", str(tmp_path / "lab")])
    assert said.exit_code == 0 and "No game with tools" in said.stdout


def test_a_replay_says_which_tool_it_was_played_without(folder: Path, client: TestClient) -> None:
    with Lab.open(folder, write=False, progress=False) as lab:
        ids = [row.id for row in lab.database.episodes.find()]
        without = next(one for one in lab.database.episodes.load(ids) if one.without_tools)
    page = client.get(f"/episodes/{without.id}").text
    assert "played without" in page and f"the tool {without.without_tools[0]}" in page
    said = CliRunner().invoke(app, ["replay", without.id, "--lab", str(folder)])
    assert said.exit_code == 0 and "played without" in said.stdout and "Verified" in said.stdout


def test_examples_are_few_telling_and_short(step: Callable[..., Step], lived: Callable[..., Episode]) -> None:
    made: dict[str, tuple[Episode, Any]] = {}
    for number in range(12):
        steps = [step(0, f"ask {number % 7}", observation="x" * 900 + "end"), step(1, "open")]
        episode = lived(*steps, env=ENV)
        made[f"ep-{number}"] = episode, [Kept(f"ask {number % 7}", "open", float(number), "oracle", 0)]
    (found,) = learned(made)
    assert (found.calls, found.episodes, found.gain) == (12, 12, 5.5)
    assert [one.gain for one in found.examples] == [11.0, 10.0, 9.0, 8.0, 7.0] and len(found.examples) == EXAMPLES
    assert all(len(one.seen) == 400 and one.seen.endswith("end") for one in found.examples)
    assert learned({"ep-0": (made["ep-0"][0], [Kept("ask 0", "open", 1.0)])}) == [], "an earlier version's"
