"""Questions with short answers, read off what the memory holds: some are trained on, the others held out and asked.

No model writes them. A step of a success is a question after the command that led on, a reflection one after what was
noted of the steps that it rests on. Games are held out by the hash of their name and seed, always the same ones, with
all their variants, and nothing of them is trained on, no episode either: what is answered better after the training was
not read there. A question is answered by ranking the right answer among those to other questions of its kind, by the
mean log-probability of their tokens.

Experimental: no table shows yet that it helps in play.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from agentlab.rounds.candidates import successes
from agentlab.rounds.ladder import learned_from
from agentlab.rounds.report import RoundReport, save
from memory import prompts
from memory.records import content_id, task_parts
from memory.store import Filter
from trainers.data import Example, Start, Tokenize, draw, opening, start_of
from trainers.errors import TooLong
from trainers.gate import Paired, p_text, paired, wilson

if TYPE_CHECKING:
    from agentlab.engines.base import Adapter
    from agentlab.rounds.parts import QuestionsConfig
    from agentlab.workspace.workspace import Workspace
    from memory.records import Episode

Item = TypeVar("Item")

PER_TASK = 4
"""Questions of each kind that are made of a game, by lot."""
OPTIONS = 4
"""Answers that are ranked, the right one among them; fewer where there are no more."""
SHOWN = 600
"""Characters of what was seen, and of what came of it."""
LONGEST = 300
"""Characters of an answer; a reflection with a longer text makes no question."""

Kind = Literal["command", "lesson"]
ASKED: dict[Kind, str] = {"command": "Which command led on?", "lesson": "What was noted?"}


class Question(BaseModel):
    """A question with its right answer, the wrong ones that it is ranked among, and where it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    env: str
    task: str
    prompt: str
    answer: str
    episode: str
    reflections: list[str] = []
    wrong: list[str] = []

    @property
    def id(self) -> str:
        return content_id("question", self.kind, self.task, self.prompt, self.answer)

    def example(self, answer: str, tokenize: Tokenize, max_tokens: int) -> Example:
        """The example that teaches an answer, read as a command is, with its line end. Raises TooLong."""
        asked = [*opening(tokenize), *tokenize(self.prompt)]
        said = [*tokenize(prompts.action(answer)), *tokenize(prompts.LINE_END)]
        if len(asked) + len(said) > max_tokens:
            raise TooLong(f"{self.id} has {len(asked) + len(said)} tokens; an example may have {max_tokens}; leave it")
        weights = [0.0] * len(asked) + [1.0] * len(said)
        return Example(token_ids=[*asked, *said], weights=weights, episode=self.id, task="question")

    def fits(self, tokenize: Tokenize, max_tokens: int) -> bool:
        """Whether every answer can be read with it."""
        try:
            return all(self.example(answer, tokenize, max_tokens) for answer in (self.answer, *self.wrong))
        except TooLong:
            return False


class Answered(BaseModel):
    """How many of `n` held-out questions were answered right by the base, `before`, and by the adapter, `after`.

    The intervals are Wilson's at 95 %, `paired` compares by question (McNemar); that questions of one game resemble
    each other, neither knows. `chance` is what guessing comes to. `kinds` has (n, before, after) of each kind,
    `results` (before, after) of each question by its id.
    """

    n: int
    before: int
    after: int
    before_interval: tuple[float, float]
    after_interval: tuple[float, float]
    paired: Paired
    chance: float
    kinds: dict[str, tuple[int, int, int]]
    results: dict[str, tuple[bool, bool]]

    @property
    def line(self) -> str:
        """It in a sentence."""
        parts = [
            f"{right} of {self.n} right {when} [{low:.2f}, {high:.2f}]"
            for right, when, (low, high) in (
                (self.before, "before", self.before_interval),
                (self.after, "after", self.after_interval),
            )
        ]
        low, high = self.paired.interval
        gain = f"{self.paired.difference:+.2f} [{low:+.2f}, {high:+.2f}], p (McNemar) {p_text(self.paired.p, '= ')}"
        return f"{', '.join(parts)}: {gain}; by chance {self.chance:.2f}"


class Made(NamedTuple):
    """The questions of a round."""

    trained: list[Question]
    held_out: list[Question]


def held_out(env: str, seed: object, config: QuestionsConfig | None) -> bool:
    """Whether nothing of a game is trained on, in whatever variant of it."""
    if config is None:
        return False
    lot = draw(0, f"{env.partition('?')[0]}|{seed}", "questions|")
    return int(lot[:13], 16) / 16**13 < config.held_out


def questions(
    workspace: Workspace, report: RoundReport, forbidden: Set[Start], tokenize: Tokenize, wanted: int
) -> Made:
    """The questions of a round, so many to teach as are `wanted`; of no game that begins like one in `forbidden`.

    The journal keeps them until they are answered, so that the same ones are trained on and asked, whatever becomes of
    this process or of the memory meanwhile.
    """
    journal = workspace.database.journal
    noted = journal.get(_scope(report), "made")
    if noted is None:
        found = [*_commands(workspace, report, forbidden), *_lessons(workspace, report, forbidden)]
        made = _made(found, report, tokenize, wanted)
        noted = {name: [one.model_dump() for one in part] for name, part in made._asdict().items()}
        journal.put(_scope(report), "made", noted)
    return Made(*([Question.model_validate(one) for one in noted[name]] for name in Made._fields))


def _scope(report: RoundReport) -> str:
    return f"questions|{report.id}"


def _made(found: Sequence[Question], report: RoundReport, tokenize: Tokenize, wanted: int) -> Made:
    config, seed = report.config.questions, report.config.seed
    assert config is not None
    right, answers = defaultdict[str, set[str]](set), defaultdict[tuple[Kind, str], set[str]](set)
    stock, asked = dict[str, Question](), dict[str, Question]()
    for one in sorted(found, key=lambda one: draw(seed, one.id, "question|")):
        right[one.prompt].add(one.answer)
        answers[one.kind, one.env].add(one.answer)
        out = held_out(one.env, task_parts(one.task).seed, config)
        (asked if out else stock).setdefault(one.prompt, one)
    # Small games coincide: what is asked of one that is trained on too is not held out.
    fresh = list[Question]()
    for one in (one for one in asked.values() if one.prompt not in stock):
        others = answers[one.kind, one.env] - right[one.prompt]
        lots = {draw(seed, f"{one.id}|{answer}", "wrong|"): answer for answer in others}
        ranked = one.model_copy(update={"wrong": [lots[lot] for lot in sorted(lots)[: OPTIONS - 1]]})
        if ranked.wrong and len(fresh) < config.asked and ranked.fits(tokenize, report.config.training.max_tokens):
            fresh.append(ranked)
    # As many of one kind as of the other, while there are any.
    by_kind = [[one for one in stock.values() if one.kind == kind] for kind in ASKED]
    ranks = sorted((at, kind) for kind, those in enumerate(by_kind) for at in range(len(those)))
    return Made([by_kind[kind][at] for kind, at in sorted((kind, at) for at, kind in ranks[:wanted])], fresh)


def _commands(workspace: Workspace, report: RoundReport, forbidden: Set[Start]) -> Iterator[Question]:
    """Steps of the first success of each game, in its refined form where it has one, that changed something."""
    first = dict[str, str]()
    for row in sorted(successes(workspace, report), key=lambda row: (row.trial, row.id)):
        first.setdefault(row.task, row.id)
    for episode in workspace.database.episodes.each(first.values()):
        steps = [step for step in episode.admissible_steps if not step.no_effect and len(step.admissible) > 1]
        if start_of(episode) not in forbidden:
            for step in _drawn({f"{episode.id}|{step.index}": step for step in steps}, report):
                yield _question("command", episode, step.observation.strip()[-SHOWN:], step.action)


class _Noted(NamedTuple):
    number: int
    id: str
    kind: str
    task: str


def _lessons(workspace: Workspace, report: RoundReport, forbidden: Set[Start]) -> Iterator[Question]:
    """What was noted of single games, by the lab itself or by whom it trusts by now, after the steps that it rests on.

    Where it was read is what its evidence says, whatever game it names.
    """
    database, by_task = workspace.database, defaultdict[str, dict[str, int]](dict)
    for env in learned_from(report.config):
        # What was noted of several games alike, too: it is counted with one of them, and was noted of each.
        wanted = Filter(
            env=env, split="train", namespace=workspace.config.namespace, on_probation=False, tier="raw", advising=True
        )
        for row in database.reflections.select(_Noted, wanted):
            if row.kind != "exemplar":  # a success whole, which is trained on as it is
                by_task[row.task][row.id] = row.number
    drawn = [number for stock in by_task.values() for number in _drawn(stock, report)]
    notes = [note for note in database.reflections.load(drawn).values() if len(note.evidence) == 1]
    played = {row.id for row in database.episodes.rows(note.evidence[0].episode for note in notes)}
    notes = [note for note in notes if note.evidence[0].episode in played and 0 < len(note.text) <= LONGEST]
    lived = database.episodes.each(note.evidence[0].episode for note in notes)
    for note, episode in zip(notes, lived, strict=True):
        steps = [step for step in episode.admissible_steps if step.index in note.evidence[0].steps]
        if steps and episode.split == "train" and start_of(episode) not in forbidden:
            done = "".join(f"\n>{prompts.action(step.action)}\n{step.result.strip()}" for step in steps)
            seen = steps[0].observation.strip()[-SHOWN:]
            yield _question("lesson", episode, f"{seen}{done[:SHOWN]}", note.text, note.id)


def _drawn(stock: Mapping[str, Item], report: RoundReport) -> list[Item]:
    """So many of a game as are asked about, by lot, in the order of their names."""
    lots = sorted(stock, key=lambda name: draw(report.config.seed, name, "question|"))
    return [stock[name] for name in sorted(lots[:PER_TASK])]


def _question(kind: Kind, episode: Episode, seen: str, answer: str, *reflections: str) -> Question:
    prompt = f"{prompts.head(episode.goal[:SHOWN])}{seen}\n{ASKED[kind]}\nAnswer:"
    return Question(
        kind=kind,
        env=episode.env,
        task=episode.task_id,
        prompt=prompt,
        answer=prompts.one_line(answer),
        episode=episode.id,
        reflections=list(reflections),
    )


def ask(workspace: Workspace, report: RoundReport) -> None:
    """Have the held-out questions answered by the base and by the new adapter, once, and store how well."""
    noted = workspace.database.journal.get(_scope(report), "made")
    if noted is None:
        return
    model, stage = workspace.model(report.adapter), "asking held-out questions"
    asked = [Question.model_validate(one) for one in noted["held_out"]]
    workspace.progress.start(stage, 2 * len(asked))
    results: list[dict[str, bool]] = []
    for adapter in (None, model.adapter):
        results.append({})
        for one in asked:
            results[-1][one.id] = _right(one, model.engine, adapter, report.config.training.max_tokens)
            workspace.progress.advance(stage)
    workspace.progress.finish(stage)
    report.questions["answered"] = answered(asked, *results).model_dump(mode="json") if asked else None
    with workspace.database.transaction():
        save(workspace, report)
        # What a reflection says must not outlive it here.
        workspace.database.journal.clear(_scope(report))


def _right(one: Question, engine: Any, adapter: Adapter | None, max_tokens: int) -> bool:
    """Whether the right answer has the highest mean log-probability a token of all, by itself."""
    scores = []
    for answer in (one.answer, *one.wrong):
        example = one.example(answer, engine.tokenize, max_tokens)
        scores.append(engine.logprob(example.token_ids, example.spans, adapter) / sum(b - a for a, b in example.spans))
    return scores[0] > max(scores[1:])


def answered(asked: Sequence[Question], before: Mapping[str, bool], after: Mapping[str, bool]) -> Answered:
    """What came of questions, by their ids."""
    n, kinds = len(asked), dict[str, tuple[int, int, int]]()
    for kind in ASKED:
        ids = [one.id for one in asked if one.kind == kind]
        if ids:
            kinds[kind] = len(ids), sum(before[id] for id in ids), sum(after[id] for id in ids)
    wins = [sum(result.values()) for result in (before, after)]
    return Answered(
        n=n,
        before=wins[0],
        after=wins[1],
        before_interval=wilson(wins[0], n),
        after_interval=wilson(wins[1], n),
        paired=paired(after, before),
        chance=sum(1 / (1 + len(one.wrong)) for one in asked) / n,
        kinds=kinds,
        results={one.id: (before[one.id], after[one.id]) for one in asked},
    )
