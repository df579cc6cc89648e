from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentlab.cli import app, play
from agentlab.engines.base import Conversation, ScoreRequest, Scores
from agentlab.engines.model import Model
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig
from environments import Task, make

RUNNER = CliRunner()
TASK = Task(env="toy/doors", split="train", seed=3)


class Preferring:
    """An engine that likes one word; it keeps what it was told, so that a test can read it."""

    name = "preferring"

    def __init__(self, word: str) -> None:
        self.word = word
        self.talks: list[Conversation] = []

    def conversation(self, goal: str, hints: str = "") -> Conversation:
        self.talks.append(Conversation(goal, hints))
        return self.talks[-1]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        return [Scores([0.0 if self.word in command else -2.0 for command in one.commands]) for one in requests]


def solution(task: Task) -> list[str]:
    env = make(task.env)
    _, info = env.start(task)
    actions = []
    while not info["won"]:
        if "take coin" in info["admissible_commands"]:
            actions.append("take coin")
        else:
            note = env.step("read note")[0]
            actions += [
                "read note",
                next(c for c in info["admissible_commands"] if c.startswith("open") and c.split()[1] in note),
            ]
        info = env.step(actions[-1])[4]
    return actions


def typed(*lines: str, arguments: Sequence[str] = ("toy/doors", "--seed", "3")) -> str:
    result = RUNNER.invoke(app, ["play", *arguments], input="".join(f"{line}\n" for line in lines))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_person_can_win_with_typed_commands() -> None:
    shown = typed(*solution(TASK))
    assert "You win!" in shown
    assert "won, score 1.00, 5 steps" in shown


def test_commands_can_be_listed_and_given_by_number() -> None:
    env = make("toy/doors")
    commands = env.start(TASK)[1]["admissible_commands"]
    number = commands.index("read note") + 1
    shown = typed("", str(number), ":quit")
    for command in commands:
        assert command in shown
    assert "(read note)\nThe note says" in shown
    assert "Stopped." in shown


def test_a_loss_and_the_end_of_input_end_the_game() -> None:
    env = make("toy/doors")
    _observation, info = env.start(TASK)
    note = env.step("read note")[0]
    wrong = next(c for c in info["admissible_commands"] if c.startswith("open") and c.split()[1] not in note)
    assert "lost, score 0.00, 1 steps" in typed(wrong)
    assert "Stopped." in typed()


def test_unknown_colon_commands_show_the_help_again() -> None:
    assert typed(":what", ":q").count(play.HELP) == 2


def test_the_ranking_shows_the_agents_shares_and_tells_it_all_that_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Preferring("note")
    loads: list[object] = []
    monkeypatch.setattr(play, "_model", lambda lab, name, held: loads.append((str(lab), name)) or Model(engine))
    shown = typed("look", "?", "read note", "?", ":quit", arguments=["toy/doors", "--seed", "3", "--adapter", "mine"])
    assert loads == [("lab", "mine")]
    best = next(line for line in shown.splitlines() if "read note" in line)
    assert "0.649" in best  # 1 / (1 + 4 e^-2)
    assert len(engine.talks) == 1
    text = engine.talks[0].text
    assert text.index("> look") < text.index("> read note") < text.index("The note says")
    assert text.endswith("\n>")


def test_the_lab_stays_open_as_long_as_its_model_may_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Preferring("note")
    lent: list[Lab] = []
    closed: list[Lab] = []
    close = Lab.close
    with Lab.open(tmp_path / "lab", create=True, config=LabConfig(embedder="hashing")):
        pass

    def model(lab: Lab, adapter: str | None = None) -> Model:
        lent.append(lab)
        return Model(engine)

    def score(requests: Sequence[ScoreRequest]) -> list[Scores]:
        assert lent[0] not in closed, "a server of the lab's own ends with it"
        return Preferring.score(engine, requests)

    def closing(lab: Lab) -> None:
        closed.append(lab)
        close(lab)

    monkeypatch.setattr(Lab, "model", model)
    monkeypatch.setattr(engine, "score", score, raising=False)
    monkeypatch.setattr(Lab, "close", closing)
    typed("?", ":quit", arguments=["toy/doors", "--lab", str(tmp_path / "lab")])
    assert lent[0] in closed


def test_the_model_is_not_loaded_before_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play, "_model", lambda lab, name, held: pytest.fail("loaded"))
    typed("look", ":quit")


def test_shares_add_up_to_one_however_small_the_probabilities() -> None:
    assert sum(play.shares([-1000.0, -1001.0, -1002.0])) == pytest.approx(1.0)
    assert play.shares([]) == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["toy/dors"], "did you mean `toy/doors`?"),
        (["toy/doors", "--seed", "99999"], "no seed 99999"),
        (["toy/doors?rooms=0"], "rooms"),
    ],
)
def test_bad_input_is_one_line_with_the_remedy(arguments: list[str], part: str) -> None:
    result = RUNNER.invoke(app, ["play", *arguments])
    assert result.exit_code == 2
    assert part in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_ranking_comes_from_the_labs_own_model(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    with Lab.open(folder, create=True, config=LabConfig(model=str(tiny_model), embedder="hashing")) as opened:
        assert opened.serving() is None
    shown = typed("?", ":quit", arguments=["toy/doors", "--seed", "3", "--lab", str(folder)])
    rows = [line.split() for line in shown.splitlines() if line.strip()[:1].isdigit()]
    assert len(rows) == 5
    assert sum(float(row[-2]) for row in rows) == pytest.approx(1.0, abs=0.01)
