"""The records that travel through the whole tool: Step, Episode, Advice, Reflection, Recall.

They are pydantic models without behaviour beyond what can be derived from their own fields. Numbers that come
from a model are natural-log probabilities; scores are in [0, 1]; times are UTC, ISO 8601.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import operator
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from memory.clock import now
from memory.mending import mend, with_numbers

Status = Literal["won", "lost", "truncated", "errored"]
ErrorKind = Literal["environment", "timeout", "engine", "actor", "reflector", "replay"]
ReflectionStatus = Literal["active", "benched", "forgotten", "merged", "repeated", "retired"]
Tier = Literal["raw", "summary", "rule"]
PromptName = Literal["transcript", "transcript+thought", "chat", "chat+thought"]

Unit = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


def content_id(prefix: str, *parts: object) -> str:
    """A content address: a name that depends on nothing but `parts`, so that work done twice gets the same one.

    80 bits of SHA-256 in base 32 (16 characters): among ten million ids two are equal with probability 4e-11. Settings
    (dataclasses and pydantic models) count by the fields that differ from their defaults, so that a release which adds
    one names everything as before. A default that comes to mean something else therefore needs a field of a new name.
    """
    digest = hashlib.sha256("\x1f".join(_canonical(part) for part in parts).encode(errors="surrogatepass")).digest()
    return f"{prefix}-{base64.b32encode(digest[:10]).decode().lower()}"


def _canonical(part: object) -> str:
    """The text of one part: plain values as they are, settings as JSON with sorted keys and without defaults."""
    plain = _plain(part)
    return json.dumps(plain, sort_keys=True) if isinstance(plain, dict | list) else str(plain)


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        usual = {field.name: _default(field) for field in dataclasses.fields(value)}
        return {name: _plain(one) for name, one in held.items() if one != usual[name]}
    if isinstance(value, Mapping):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    return value


def _default(field: dataclasses.Field[object]) -> object:
    """The default of a dataclass's field; MISSING, which equals nothing, where it has none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def state_key(state: str) -> str:
    """The short name under which advice on a state is filed (16 hex digits of its text's SHA-256)."""
    return hashlib.sha256(state.encode()).hexdigest()[:16]


class TaskParts(NamedTuple):
    """What a task's id names; `split` and `seed` are empty where it names none."""

    env: str
    split: str
    seed: str


def task_parts(task_id: str) -> TaskParts:
    """The parts of `env:split:seed`, the last two at its end: an environment's own id may have colons in it.

    What is no such id is the name of an environment alone.
    """
    env, colon, rest = task_id.rpartition(":")
    env, between, split = env.rpartition(":")
    return TaskParts(env, split, rest) if colon and between else TaskParts(task_id, "", "")


TASK_SPLIT = "substr(rtrim(task, replace(task, ':', '')), -length(?) - 2) = ':' || ? || ':'"
"""The SQL condition that the id in column `task` names a split, as `task_parts` reads it; the split is given twice.

`rtrim` takes off what follows the last colon, since nothing there is one.
"""


class Record(BaseModel):
    """Base of all records: unknown fields are errors, so that a misspelt one cannot vanish, and numbers have bounds."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def stored(cls, payload: bytes | str | Mapping[str, Any]) -> Self:
        """The record of what was stored, as JSON or as its fields.

        What was stored before a number had bounds is read at the nearest bound, and one that JSON could not hold (NaN,
        infinities) as 0, within a list as nothing known. Raises pydantic's ValidationError for what is amiss otherwise.
        """
        try:
            return cls.model_validate(payload) if isinstance(payload, Mapping) else cls.model_validate_json(payload)
        except ValidationError as error:
            found = dict(payload) if isinstance(payload, Mapping) else json.loads(payload)
            for one in error.errors(include_url=False):
                mend(found, one["loc"], one.get("ctx", {}), one["type"])
            return cls.model_validate(found)


class Usage(Record):
    """What a model took: tokens that it read and wrote, seconds, and money (US dollars), as far as they are known."""

    model_config = ConfigDict(frozen=True)

    input_tokens: Count = 0
    output_tokens: Count = 0
    seconds: NotNegative = 0.0
    cost: NotNegative = 0.0

    def __bool__(self) -> bool:
        return bool(self.input_tokens or self.output_tokens or self.seconds or self.cost)

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in Usage.model_fields})


NO_USAGE = Usage()


class Step(Record):
    """One action and what it did.

    `state` identifies the situation before the action as far as the player can know it (look, inventory, score).
    `scores[i]` is the engine's log-probability of `admissible[i]`, None where only the best was looked for and this was
    known to be behind it; `bonus[i]` is what memory added. Where the environment takes any text, `admissible` are the
    commands that were chosen from, if any. `thought` is what the actor thought before; `token_ids` is what it wrote,
    with the `logprobs` of these tokens. An `invalid` action is one that was written although it is none of the
    admissible ones, or a reply in which no command could be read. Of the observation, `cut` characters of the middle
    did not fit into the model's context; `note` is what stood beside it in the prompt and did not come from the
    environment.
    """

    index: Count
    observation: str
    state: str
    admissible: list[str]
    action: str
    result: str
    next_state: str
    reward: Finite = 0.0
    score: Finite = 0.0
    logprob: Finite | None = None
    scores: list[Finite | None] | None = None
    bonus: list[Finite] | None = None
    cut: Count = 0
    note: str = Field("", exclude_if=operator.not_)
    thought: str = Field("", exclude_if=operator.not_)
    invalid: bool = Field(False, exclude_if=operator.not_)
    token_ids: list[int] = Field(default_factory=list, exclude_if=operator.not_)
    logprobs: list[Finite] = Field(default_factory=list, exclude_if=operator.not_)

    @property
    def all_scores(self) -> list[float] | None:
        """The scores where every command has one; else None."""
        known = [score for score in self.scores or [None] if score is not None]
        return known if known and len(known) == len(self.scores or ()) else None

    @property
    def no_effect(self) -> bool:
        """True if the action left the state as it was and said nothing new."""
        return self.state == self.next_state and self.result in ("", self.observation)


class ToolUse(Record):
    """What a tool was in an episode: the `steps` at which a call was offered, the calls `proposed` there, those `made`;
    whether it was `held_out` by lot, to tell its effect from chance, and with which `propensity` it was left in."""

    tool: str
    steps: Count = 0
    proposed: Count = 0
    made: Count = 0
    held_out: bool = False
    propensity: Unit = 1.0


class Episode(Record):
    """One play of one task, from reset to its end, exactly as it was lived.

    `token_ids` is the whole sequence the model saw and chose; `action_spans` are the half-open ranges in it that the
    agent chose. Both are empty for policies without a model. `recalled` names the reflections that served it, `hints`
    is the memory block that stood in the prompt, `strength` what advice was multiplied by. `is_oracle` says that the
    feedback between trials came from the environment's own score. An episode with `relabelled_from` was made from that
    one in hindsight: it is won by a goal that it did reach, which was not its task, so it is no success of the agent.
    `error` says why it `errored`, and `error_kind` what failed. `usage` is what the model took to act and to reflect.
    `prompt` says how the model read it: as a transcript, or as the messages of a chat, with thoughts or without
    (`memory.prompts.Prompting`). `tools` are those that the id of the environment names, unless nobody played it so.
    """

    id: str
    run: str
    env: str
    split: str
    seed: int
    trial: Count = 0
    arm: str = ""
    engine: str = ""
    adapter: str | None = None
    temperature: NotNegative = 0.0
    strength: Finite = 1.0
    rng_seed: int = 0
    goal: str = ""
    hints: str = ""
    recalled: list[str] = Field(default_factory=list)
    is_oracle: bool = True
    status: Status = "truncated"
    score: Finite = 0.0
    steps: list[Step] = Field(default_factory=list)
    token_ids: list[int] = Field(default_factory=list)
    action_spans: list[tuple[int, int]] = Field(default_factory=list)
    minimised_from: str | None = None
    relabelled_from: str | None = None
    error: str | None = None
    error_kind: ErrorKind | None = None
    started_at: str = Field(default_factory=now)
    seconds: NotNegative = 0.0
    usage: Usage = Field(default_factory=Usage, exclude_if=operator.not_)
    prompt: PromptName = Field("transcript", exclude_if=lambda name: name == "transcript")
    tools: list[ToolUse] = Field(default_factory=list, exclude_if=operator.not_)

    @model_validator(mode="before")
    @classmethod
    def _without_numbers(cls, stored: Any) -> Any:
        """An episode whose rewards or scores were not numbers, as earlier versions stored it, counts as errored."""
        if not isinstance(stored, dict):
            return stored
        steps = [with_numbers(step) for step in stored.get("steps") or ()]
        found = {**with_numbers(stored), "steps": steps}
        if found == {"steps": [], **stored}:
            return stored
        error = f"The environment `{stored.get('env')}` gave a reward or a score that was no number."
        return {**found, "status": "errored", "error": error, "error_kind": "environment"}

    @property
    def task_id(self) -> str:
        """`env:split:seed`, the same text as `environments.Task.id`; `task_parts` takes it apart."""
        return f"{self.env}:{self.split}:{self.seed}"

    @property
    def won(self) -> bool:
        return self.status == "won"

    @property
    def without_tools(self) -> list[str]:
        """The tools of its environment that it was played without."""
        return [use.tool for use in self.tools if use.held_out]

    @property
    def actions(self) -> list[str]:
        return [step.action for step in self.steps]

    @property
    def admissible_steps(self) -> list[Step]:
        """The steps without invalid ones: in a reply that is no command stands perhaps a thought, which no memory
        quotes."""
        return [step for step in self.steps if not step.invalid]


class Advice(Record):
    """What is known about one action in one state: counts and values, from which a policy makes a bonus.

    `value` is the best return seen from here (in [0, 1], backed up along the trajectory; 0 when nothing was gained);
    `blame` in [0, 1] says how close before a loss the action stood (1 = it lost).
    """

    state: str
    action: str
    visits: Count = 0
    no_effect: Count = 0
    negative: Count = 0
    lost: Count = 0
    blame: Unit = 0.0
    value: Unit = 0.0

    @property
    def key(self) -> tuple[str, str]:
        return state_key(self.state), self.action


class Evidence(Record):
    """Where a reflection was read off: an episode and the indices of the steps that show it."""

    episode: str
    steps: list[Count] = Field(default_factory=list)


class Reflection(Record):
    """One item of the long-term memory, for two channels: `text` and `advice`, both backed by `evidence`.

    `kind` is the reflector's name (`grounded`, `written`, `exemplar`, or a user's own). `importance` is in [0, 1].
    `oracle` says that the feedback it rests on came from the environment's own score. `namespace` is whose memory it
    belongs to: one namespace never sees another. `source` says who wrote it (empty: the agent itself); one that came
    from outside is `vouched` for once it has shown that it helps, or a person stands for it. Consolidation lifts what
    was read off one episode (`raw`) to a `summary` or a `rule`; `derived_from` names the reflections that such an item
    was made from, `merged_into` the one that took this one's place, `votes` what a rule stands at, and `context` says
    what the notes near it add: the text stays what was learned. `topic` names the question that the text is one answer
    to (`where: coin`), so that answers can be counted against each other.

    One that is `repeated` says what `merged_into` says: its text is counted there, its advice goes on serving.
    """

    id: str
    kind: str
    env: str
    task: str
    goal: str = ""
    text: str
    context: str = ""
    topic: str = ""
    advice: list[Advice] = Field(default_factory=list)
    evidence: list[Evidence] = Field(default_factory=list)
    importance: Unit = 0.5
    tags: list[str] = Field(default_factory=list)
    oracle: bool = True
    pinned: bool = False
    status: ReflectionStatus = "active"
    namespace: str = ""
    source: str = ""
    vouched: bool = Field(False, exclude_if=operator.not_)
    tier: Tier = "raw"
    votes: int = 0
    derived_from: list[str] = Field(default_factory=list)
    merged_into: str | None = None
    run: str = ""
    created_at: str = Field(default_factory=now)
    updated_at: str = Field(default_factory=now)

    @property
    def on_probation(self) -> bool:
        """True if it came from outside, and nobody and nothing speaks for it yet."""
        return bool(self.source) and not (self.vouched or self.pinned)


class Recall(Record):
    """One reflection served to one episode: the query, the parts of its score, and whether the episode was won.

    `won` is None until the episode has ended. One that was `held_out` was chosen but not served, so that its effect
    can be told from chance; `propensity` is the probability with which it was served rather than held out. `env` is
    the environment of the episode: effects are compared within one environment. `step` is the step at which it first
    had a part; None for what stands in the prompt from the beginning.
    """

    episode: str
    reflection: str
    rank: Count
    query: str
    score: Finite
    parts: dict[str, Finite] = Field(default_factory=dict)
    channel: Literal["text", "exemplar", "advice", "tool"] = "text"
    at: str = Field(default_factory=now)
    won: bool | None = None
    env: str = ""
    held_out: bool = False
    propensity: Unit = 1.0
    step: Annotated[Count | None, Field(exclude_if=lambda step: step is None)] = None


class Link(Record):
    """One reflection points to another: `similar`, `merged`, `derived`, or a kind of the writer's own.

    `weight` is in [0, 1] for similarities, else a count.
    """

    source: str
    target: str
    kind: str
    weight: NotNegative = 1.0
    at: str = Field(default_factory=now)
