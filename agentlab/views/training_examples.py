"""The examples of a round as the model sees them when it is trained: text, with the tokens marked that carry loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from agentlab.engines import hub
from agentlab.errors import AgentLabError, UnknownRound
from agentlab.workspace.workspace import Workspace
from memory import prompts
from memory.errors import UnknownEpisode
from memory.records import task_parts
from trainers import BaseRef, job
from trainers.data import Distilled, Example, Judged, Pair, Regularised, Trajectory
from trainers.errors import NotAJob

if TYPE_CHECKING:
    from trainers.data import Record

SIZE = 50
"""Examples of a part of the list."""


class Segment(BaseModel):
    """A piece of text whose tokens have one weight in the loss; 0: they carry none."""

    text: str
    weight: float


class Shown(BaseModel):
    """One sequence of an example as it is shown: where it comes from, and its text in segments.

    `role` says what it is there for, such as the better side of a pair.
    """

    role: str
    episode: str
    env: str
    task: str
    tokens: int
    with_loss: int
    segments: list[Segment] = []


class Candidate(BaseModel):
    """A command at a choice, and the probability that a teacher gives it."""

    text: str
    probability: float


class TrainingExample(BaseModel):
    """An example of a round, counted from 1.

    `read_by` is the base model whose tokenizer made text of the tokens; empty where that is not on this machine: then
    the text is that of the episode as it is stored, with its actions marked.
    """

    round: str
    number: int
    total: int
    kind: str
    objective: str
    weight: float
    read_by: str
    sequences: list[Shown]
    choices: list[list[Candidate]] = []


class ExampleLine(BaseModel):
    """An example in a line."""

    number: int
    kind: str
    sequences: list[Shown]


class TrainingExamples(BaseModel):
    """A part of the examples of a round."""

    round: str
    total: int
    offset: int
    examples: list[ExampleLine]


def count(folder: Path) -> int:
    """How many examples the job in a folder has; 0 where there is no job."""
    try:
        with (folder / "examples.jsonl").open("rb") as stream:
            return sum(1 for line in stream if line.strip())
    except OSError:
        return 0


def training_examples(workspace: Workspace, round_id: str, offset: int = 0) -> TrainingExamples:
    """The examples of a round from `offset` on, without their text."""
    folder = folder_of(workspace, round_id)
    total = count(folder)
    found = job.records(folder, offset, SIZE) if total else ()
    return TrainingExamples(
        round=round_id,
        total=total,
        offset=offset,
        examples=[
            ExampleLine(
                number=number,
                kind=type(record).__name__.lower(),
                sequences=[_sequence(role, example) for role, example in _parts(record)],
            )
            for number, record in enumerate(found, offset + 1)
        ],
    )


def training_example(workspace: Workspace, round_id: str, number: int) -> TrainingExample:
    """One example of a round with its text. Raises UnknownRound if it has none of this number, NotAJob."""
    folder = folder_of(workspace, round_id)
    total = count(folder)
    if not 1 <= number <= total:
        raise UnknownRound(f"{round_id} has {total} examples to train on, and none of the number {number}.")
    record = next(iter(job.records(folder, number - 1)), None)
    if record is None:
        raise NotAJob(f"{folder} lost its example {number}; it is being written, or was damaged.")
    config = job.settings(folder)
    tokenizer = _tokenizer(config.base, workspace.config.model)
    return TrainingExample(
        round=round_id,
        number=number,
        total=total,
        kind=type(record).__name__.lower(),
        objective=config.objective,
        weight=record.weight if isinstance(record, (Pair, Judged)) else 1.0,
        read_by=config.base.name if tokenizer is not None else "",
        sequences=[
            _sequence(role, example, list(_text(workspace, example, tokenizer))) for role, example in _parts(record)
        ],
        choices=_choices(record, tokenizer) if isinstance(record, Distilled) else [],
    )


def folder_of(workspace: Workspace, round_id: str) -> Path:
    """Where the job of a round lies. Raises UnknownRound for an id by which a path would lead elsewhere."""
    if not round_id.strip(".") or Path(round_id).name != round_id:
        raise UnknownRound(f"{round_id!r} cannot be the name of a round's folder.")
    return workspace.folder / "jobs" / round_id


def _parts(record: Record) -> Iterator[tuple[str, Example]]:
    """The sequences of a record, each with what it is there for."""
    if isinstance(record, Example):
        yield "taught", record
    elif isinstance(record, Pair):
        yield "better side", record.better
        yield "worse side", record.worse
    elif isinstance(record, Judged):
        yield "desirable" if record.desirable else "undesirable", record.example
    elif isinstance(record, Trajectory):
        yield f"played for step {record.step + 1}, reward {record.reward:g}", record.example
    else:
        yield "taught", record.example
        if isinstance(record, Regularised):
            yield "kept to the base (KL)", record.reference


def _sequence(role: str, example: Example, segments: Sequence[Segment] = ()) -> Shown:
    return Shown(
        role=role,
        episode=example.episode,
        env=task_parts(example.task).env,
        task=example.task,
        tokens=len(example),
        with_loss=sum(map(bool, example.weights)),
        segments=list(segments),
    )


def _text(workspace: Workspace, example: Example, tokenizer: Any) -> Iterator[Segment]:
    if tokenizer is not None:
        yield from _decoded(example, tokenizer)
        return
    try:
        (episode,) = workspace.database.episodes.load([example.episode])
    except UnknownEpisode:
        return
    for piece in prompts.segments(episode):
        yield Segment(text=piece.text, weight=float(piece.chosen))


def _decoded(example: Example, tokenizer: Any) -> Iterator[Segment]:
    """The text of the tokens, cut where their weight changes.

    Each piece is what the text grows by: a tokenizer may read a token otherwise at the beginning of a text.
    """
    done = ""
    for weight, places in groupby(range(len(example)), key=example.weights.__getitem__):
        end = [*places][-1] + 1
        text = tokenizer.decode(example.token_ids[:end], skip_special_tokens=False)
        yield Segment(text=text.removeprefix(done), weight=weight)
        done = text


def _choices(record: Distilled, tokenizer: Any) -> list[list[Candidate]]:
    def text(ids: list[int]) -> str:
        return tokenizer.decode(ids, skip_special_tokens=False) if tokenizer is not None else " ".join(map(str, ids))

    return [
        [
            Candidate(text=text(ids), probability=probability)
            for ids, probability in zip(choice.candidates, choice.probabilities, strict=True)
        ]
        for choice in record.choices
    ]


def _tokenizer(base: BaseRef, model: str) -> Any:
    """The tokenizer of the base, if it is on this machine: where the job remembers it, else where the lab has it."""
    folders = [Path(base.path)] if base.path else []
    if model == base.name:
        with suppress(AgentLabError):  # it is behind an API, or unknown here
            folders += filter(None, [hub.here(model)])
    for folder in folders:
        file = folder / "tokenizer.json"
        if file.is_file():
            return _read(str(file), file.stat().st_mtime_ns)
    return None


@lru_cache(maxsize=2)
def _read(file: str, changed: int) -> Any:
    # Not transformers': that one is slow to import, and takes hundreds of megabytes.
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(file)
    except Exception:  # what it raises is no class of its own
        return None
