"""A model judges attempts, and its own judgements; a round learns from what it prefers, and goes on after a kill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agentlab.engines.base import WriteRequest, Writing
from agentlab.engines.model import Model
from agentlab.errors import AgentLabError, BadConfig, LimitReached
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport, judging
from agentlab.rounds.checking import check_settings
from agentlab.rounds.collecting import collect
from agentlab.rounds.judging import check_judge, judge, judged_scores
from agentlab.rounds.pool import attempts
from agentlab.rounds.records import JUDGEMENTS, records
from agentlab.rounds.selecting import select
from memory.records import Episode, Usage
from tests.agentlab.rounds.conftest import ENV, Spelling, reads_notes
from trainers.data import Pair, start_of

Opened = Callable[..., Lab]
Made = Callable[..., RoundReport]


class Judging(Spelling):
    """Gives each attempt the score that `points` says of its prompt, with the words as tokens; counts what it wrote."""

    def __init__(self, points: Callable[[str, int], str], breaks_at: int = -1) -> None:
        super().__init__(reads_notes)
        self.points, self.breaks_at, self.lists = points, breaks_at, list[Sequence[WriteRequest]]()

    def write(self, requests: Sequence[WriteRequest]) -> list[Writing]:
        if len(self.lists) == self.breaks_at:
            self.breaks_at = -1
            raise KeyboardInterrupt
        self.lists.append(requests)
        texts = [self.points(request.prompt, request.seed) for request in requests]
        return [
            Writing(text, self.tokenize(text), [], Usage(input_tokens=9), prompt_ids=self.tokenize(request.prompt))
            for text, request in zip(texts, requests, strict=True)
        ]


def knows(prompt: str, seed: int) -> str:
    """A judge that reads the last words of the game: who took the coin gets all points."""
    if "Judgement A" in prompt:
        return "Better: A" if prompt.index("Score: 5") < prompt.index("Judgement B") else "Better: B"
    return (
        f"It {'has' if 'You take the coin' in prompt else 'lacks'} it.\nScore: {4 if 'take the coin' in prompt else 1}"
    )


@pytest.fixture
def lab(open_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Lab]:
    """Opens a lab that has searched ten games, with a judge of its own."""

    def opened(engine: Judging, made: RoundReport) -> Lab:
        lab = open_lab(engine=engine)
        assert collect(lab, made) == "judge"
        return lab

    return opened


@pytest.fixture
def judged(report: Made) -> Callable[..., RoundReport]:
    """Makes the report of a round whose pairs a judge makes."""

    def made(sources: Sequence[str] = ("judge",), **settings: Any) -> RoundReport:
        return report(
            adapter=None, envs=[ENV], seeds=10, collect="mcts", held_out_seeds=0, gate_seeds=1,
            search={"budget": {"steps": 60}, "settings": {"wins": 3}},
            training={"objective": "dpo"}, preferences={"sources": list(sources), "judge": settings},
        )  # fmt: skip

    return made


def known(lab: Lab, made: RoundReport) -> dict[str, Episode]:
    return {episode.id: episode for episode in attempts(lab, made.config)}


def test_the_best_of_a_task_is_preferred_to_the_worst_by_what_the_judge_says(
    lab: Callable[..., Lab], judged: Callable[..., RoundReport]
) -> None:
    made = judged()
    here = lab(Judging(knows), made)
    assert judge(here, made) == "select"
    found, episodes = records(here, made, []), known(here, made)
    assert len(found.records) > 3
    for pair in found.records:
        assert isinstance(pair, Pair)
        assert episodes[pair.better.episode].won and not episodes[pair.worse.episode].won
    assert made.judged["judgements"] == 3 * made.judged["attempts"] == made.judged["of which could be read"]
    assert found.judged == {
        "pairs that the game scored differently": len(found.records),
        "of which alike": len(found.records),
    }


def test_a_judge_that_is_wrong_teaches_what_is_wrong_and_the_report_says_how_often(
    lab: Callable[..., Lab], judged: Callable[..., RoundReport]
) -> None:
    made = judged()
    here = lab(Judging(lambda prompt, seed: f"Score: {0 if 'You take the coin' in prompt else 3}"), made)
    judge(here, made)
    found, episodes = records(here, made, []), known(here, made)
    assert found.records and not any(episodes[pair.better.episode].won for pair in found.records)  # type: ignore[union-attr]
    assert found.judged["of which alike"] == 0 < found.judged["pairs that the game scored differently"]


def test_the_judge_is_told_nothing_of_the_outcome(lab: Callable[..., Lab], judged: Callable[..., RoundReport]) -> None:
    made, engine = judged(samples=1), Judging(knows)
    here = lab(engine, made)
    judge(here, made)
    asked = [request for requests in engine.lists for request in requests]
    assert len(asked) == made.judged["attempts"] > 8
    for request in asked:
        assert "Result:" not in request.prompt and "truncated" not in request.prompt and "1.00" not in request.prompt


def test_scores_are_averaged_over_the_judgements_that_can_be_read(
    lab: Callable[..., Lab], judged: Callable[..., RoundReport]
) -> None:
    made = judged(samples=3)
    seen = dict[str, int]()

    def unsteady(prompt: str, seed: int) -> str:
        seen[prompt] = seen.get(prompt, 0) + 1
        return ["Score: 2", "I cannot say.", "Score: 5"][seen[prompt] % 3]

    here = lab(Judging(unsteady), made)
    judge(here, made)
    assert set(judged_scores(here, made).values()) == {3.5}
    assert made.judged["of which could be read"] == 2 * made.judged["attempts"]
    assert records(here, made, []).records == [], "all are equal"


def test_what_was_judged_is_not_judged_again_and_comes_to_the_same(
    lab: Callable[..., Lab], judged: Callable[..., RoundReport], open_lab: Callable[..., Lab]
) -> None:
    made, broken = judged(), Judging(knows, breaks_at=2)
    here = lab(broken, made)
    with pytest.raises(KeyboardInterrupt):
        judge(here, made)
    assert len(judged_scores(here, made)) == 8
    judge(here, made)
    assert sum(map(len, broken.lists)) == 3 * made.judged["attempts"], "each once"
    whole, unbroken = judged(), Judging(knows)
    other = open_lab("other", engine=unbroken)
    collect(other, whole)
    judge(other, whole)
    assert judged_scores(other, whole) == judged_scores(here, made) and whole.judged == made.judged
    assert sorted(str(one) for one in unbroken.lists) == sorted(str(one) for one in broken.lists)


def test_a_later_round_judges_only_what_is_new_and_another_judge_judges_all(
    lab: Callable[..., Lab], judged: Callable[..., RoundReport]
) -> None:
    made, engine = judged(), Judging(knows)
    here = lab(engine, made)
    judge(here, made)
    before = len(engine.lists)
    judge(here, made.model_copy(update={"id": "round-2", "number": 2}))
    assert len(engine.lists) == before
    judge(here, judged(temperature=0.2))
    assert len(engine.lists) == 2 * before


def test_what_judging_takes_counts_against_the_limit_of_the_command(
    lab: Callable[..., Lab], judged: Callable[..., RoundReport]
) -> None:
    made = judged()
    here = lab(Judging(knows), made)
    here.limit(tokens=150)
    with pytest.raises(LimitReached):
        judge(here, made)
    assert len(judged_scores(here, made)) == 8, "of 27 tokens each, by four"
    here.limit(tokens=10**6)
    judge(here, made)
    assert len(judged_scores(here, made)) == made.judged["attempts"]


def test_a_judge_whose_judgements_cannot_be_read_ends_the_round_in_one_line_before_it_has_read_all(
    lab: Callable[..., Lab], judged: Callable[..., RoundReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "HOPELESS", 8)
    made, engine = judged(), Judging(lambda prompt, seed: "The game is a game of skill.")
    here = lab(engine, made)
    judge(here, made)
    assert len(engine.lists) == 2
    with pytest.raises(AgentLabError, match=r"none of 24 judgements can be read") as failed:
        select(here, made)
    assert "\n" not in str(failed.value) and made.phase == "failed"


def test_where_no_two_attempts_differ_the_round_says_who_should_explore(
    open_lab: Callable[..., Lab], judged: Callable[..., RoundReport]
) -> None:
    made = judged()
    here = open_lab(engine=Judging(knows))
    judge(here, made)  # nothing was explored
    with pytest.raises(AgentLabError, match="explore with a model") as failed:
        select(here, made)
    assert "\n" not in str(failed.value)


def test_of_a_task_no_more_are_judged_than_asked_for_and_none_that_did_the_same(
    lab: Callable[..., Lab], judged: Callable[..., RoundReport]
) -> None:
    made = judged(candidates=2)
    here = lab(Judging(knows), made)
    judge(here, made)
    tasks: dict[str, list[tuple[str, ...]]] = {}
    for id in judged_scores(here, made):
        episode = known(here, made)[id]
        tasks.setdefault(episode.task_id, []).append(tuple(episode.actions))
    assert tasks and all(len(set(played)) == len(played) == 2 for played in tasks.values())


# -- judgements of judgements ------------------------------------------------------------------------------------------


def wavers(prompt: str, seed: int) -> str:
    """Right two times of three; tells the better of two judgements by the score that is right."""
    right = 5 if "You take the coin" in prompt else 0
    if "Judgement A" in prompt:
        first, second = prompt.split("Judgement A")[1].split("Judgement B")
        a, b = f"Score: {right}" in first, f"Score: {right}" in second
        return "Both say the same." if a == b else f"Better: {'A' if a else 'B'}"
    return f"Score: {right if seed % 3 else 5 - right}"


def test_judgements_are_compared_in_both_orders_and_the_best_is_taught_against_the_worst(
    lab: Callable[..., Lab], judged: Callable[..., RoundReport]
) -> None:
    made, engine = judged(samples=4, judgements=1.0), Judging(wavers)
    here = lab(engine, made)
    judge(here, made)
    compared = [requests for requests in engine.lists if "Judgement A" in requests[0].prompt]
    assert len(compared) == made.judged["attempts whose judgements were compared"] > 1
    assert all(len(requests) == 4 * 3 for requests in compared)
    found, episodes = records(here, made, []), known(here, made)
    pairs = [pair for pair in found.records if said(pair.better).startswith("Score")]  # type: ignore[union-attr]
    assert found.selected[JUDGEMENTS] == len(pairs) > 0 and found.selected[ENV] >= len(pairs)
    for pair in pairs:
        assert isinstance(pair, Pair)
        right = 5 if episodes[pair.better.episode].won else 0
        assert (said(pair.better), said(pair.worse)) == (f"Score: {right}", f"Score: {5 - right}")
        asked = bytes(pair.better.token_ids[: -len(said(pair.better))]).decode()
        assert asked in {request.prompt for requests in engine.lists for request in requests}, "as it was read"
    before = len(engine.lists)
    judge(here, made)
    assert len(engine.lists) == before, "nothing is compared twice"


def test_a_judge_that_always_takes_the_first_teaches_nothing_about_judging(
    lab: Callable[..., Lab], judged: Callable[..., RoundReport]
) -> None:
    made = judged(samples=4, judgements=1.0)
    here = lab(Judging(lambda prompt, seed: "Better: A" if "Judgement A" in prompt else wavers(prompt, seed)), made)
    judge(here, made)
    found = records(here, made, [])
    assert found.selected[ENV] and not found.selected[JUDGEMENTS]


def test_no_judgement_of_a_game_that_begins_like_a_held_out_one_is_taught(
    lab: Callable[..., Lab], judged: Callable[..., RoundReport]
) -> None:
    made = judged(samples=4, judgements=2.0)
    here = lab(Judging(wavers), made)
    judge(here, made)
    found = records(here, made, [])
    assert found.selected[JUDGEMENTS]
    starts = sorted({start_of(episode) for episode in known(here, made).values()})
    left = records(here, made, starts[: len(starts) // 2])
    episodes = known(here, made)
    assert left.records and {start_of(episodes[id]) for id in left.episodes} <= set(starts[len(starts) // 2 :])


def said(record: Any) -> str:
    """What the tokens that carry loss say."""
    return bytes(id for id, weight in zip(record.token_ids, record.weights, strict=True) if weight).decode()


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preferences", "why"),
    [
        ({"judge": {"samples": 5}}, "`preferences.judge` would do nothing; nobody judges"),
        ({"sources": ["judge"], "judge": {"judgements": 1, "by": "critic"}}, "another model that judges"),
        ({"sources": ["judge"], "judge": {"judgements": 1, "samples": 1}}, "of one judgement there is no pair"),
        ({"sources": ["judge"], "judge": {"judgements": 1, "temperature": 0}}, "of one judgement there is no pair"),
        ({"sources": ["judge"], "judge": {"samples": 3, "temperature": 0}}, "set a temperature above 0"),
    ],
)
def test_settings_of_a_judge_that_could_change_nothing_are_refused(preferences: dict[str, Any], why: str) -> None:
    config = {"envs": [ENV], "training": {"objective": "dpo"}, "preferences": preferences}
    with pytest.raises(BadConfig, match=why):
        check_settings(RoundConfig.model_validate(config))


def test_a_judge_that_this_lab_does_not_have_is_refused(
    open_lab: Callable[..., Lab], judged: Callable[..., RoundReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = open_lab(engine=Judging(knows))
    check_judge(here, judged().config)
    with pytest.raises(BadConfig, match=r"this lab has none; name a model under `critic` in lab\.toml"):
        check_judge(here, judged(by="critic").config)
    monkeypatch.setattr(Model, "writes", False)
    with pytest.raises(BadConfig, match=r"writes nothing, so it cannot judge"):
        check_judge(here, judged().config)
    check_judge(here, judged(sources=["reward"]).config)


def test_the_critic_of_the_lab_judges_where_it_is_asked_to(
    lab: Callable[..., Lab], judged: Callable[..., RoundReport]
) -> None:
    made, own, critic = judged(by="critic"), Judging(lambda *_: "?"), Judging(knows)
    here = lab(own, made)
    here.config = here.config.model_copy(update={"critic": "openai:judge"})
    here.__dict__["critic"] = Model(critic)
    judge(here, made)
    assert not own.lists and critic.lists and records(here, made, []).records
