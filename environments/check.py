"""The contract of an environment, checked by playing it: run this on an environment of your own.

    from environments.check import check_or_raise

    check_or_raise("own/cellar")        # an id, or a function that makes the environment

A random player plays a few games of each fold; everything that it is told is compared with the rules, and with a second
environment that plays the same actions.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from environments.base import SPLITS, Info, Task, TextEnv, Turn
from environments.errors import BadAnswer, ContractViolation, EnvironmentsError
from environments.registry import made, make
from environments.worker import close

RULES = {
    "makes": "the environment can be made, reset and played without an error",
    "begins": "a game is not over when it begins",
    "text": "what is told is text, without halves of characters (lone surrogates)",
    "info": "info has all its keys, each of its type",
    "commands": "admissible commands are sorted, different, not empty texts, one at least while the game runs; or None",
    "goal": "the goal is told and does not change within an episode",
    "state": "the state is told",
    "score": "the score lies between 0 and 1",
    "reward": "the reward is a finite number",
    "end": "won, lost and terminated agree; a won game has score 1",
    "step limit": "an episode is truncated after the limit's number of steps, not later",
    "any action": "an action that is not admissible is answered, not an exception",
    "same seed": "the same task is the same game in another environment, and after other games in the same one",
    "replay": "the same actions give the same observations, rewards and info",
    "folds": "games of dev and test are mostly not games of train",
    "close": "it can be closed without an error",
}
# Which rule is broken by an answer that is refused, by the field that was wrong.
_OF_FIELD = {
    "observation": "text",
    "goal": "text",
    "state": "text",
    "score": "score",
    "value": "reward",
    "reward": "reward",
    "admissible": "commands",
    "admissible_commands": "commands",
    "won": "info",
    "lost": "info",
}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "admissible_commands": (list, type(None)),
    "score": (int, float),
    "won": bool,
    "lost": bool,
    "goal": str,
    "state": str,
}
_HALVES = re.compile("[\ud800-\udfff]")
NONSENSE = "colourless green ideas sleep furiously"


@dataclass(frozen=True)
class Finding:
    """One rule, whether it is kept, and what was seen."""

    rule: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Report:
    """What a check found."""

    env_id: str
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """True if every rule is kept."""
        return all(finding.ok for finding in self.findings)

    def __str__(self) -> str:
        lines = [f"{'ok  ' if finding.ok else 'FAIL'} {finding.rule}: {finding.detail}" for finding in self.findings]
        return "\n".join([f"{self.env_id}: {'keeps the contract' if self.ok else 'breaks the contract'}", *lines])


def check(
    target: str | Callable[[], TextEnv],
    tasks: Iterable[Task] | None = None,
    *,
    episodes: int = 4,
    starts: int = 20,
    rng_seed: int = 0,
) -> Report:
    """Play `target` and report which rules it keeps.

    Args:
        target: an environment id, or a function that makes a new environment at each call.
        tasks: what to play; by default the first seeds of each fold.
        episodes: how many tasks of each fold to play when `tasks` is not given.
        starts: how many first observations of each fold to compare across folds.
        rng_seed: the seed of the random player.
    """
    name = target if isinstance(target, str) else getattr(target, "__name__", "environment")

    def factory() -> TextEnv:
        return make(target) if isinstance(target, str) else made(name, target)

    inspection = _Inspection(rng_seed)
    first = second = None
    try:
        first, second = factory(), factory()
        name = first.env_id
        inspection.listen(first)
        chosen = list(tasks) if tasks is not None else _tasks(first, episodes)
        for task in chosen:
            inspection.play(first, second, task)
        if tasks is None:
            inspection.compare_folds(first, starts)
    except Exception as error:  # whatever a foreign environment raises is a finding, not a crash
        inspection.failed("makes", "", error)
    finally:
        for env in (first, second):
            if env is not None:
                inspection.closed(env)
    return inspection.report(name)


def check_or_raise(target: str | Callable[[], TextEnv], tasks: Iterable[Task] | None = None, **settings: Any) -> Report:
    """Like `check`, for tests.

    Raises:
        ContractViolation: naming the rules that are broken.
    """
    report = check(target, tasks, **settings)
    if not report.ok:
        broken = "; ".join(f"{finding.rule}: {finding.detail}" for finding in report.findings if not finding.ok)
        raise ContractViolation(f"{report.env_id} breaks its contract; {broken}; see environments.check.RULES")
    return report


def _tasks(env: TextEnv, episodes: int) -> list[Task]:
    return [
        Task(env=env.env_id, split=split, seed=seed) for split in SPLITS for seed in list(env.fold(split)[:episodes])
    ]


@dataclass
class _Inspection:
    """The findings so far: of each rule the first breach, and how often it was looked at."""

    rng_seed: int
    breaches: dict[str, str] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)

    def broken(self, rule: str, detail: str) -> None:
        self.looks[rule] = self.looks.get(rule, 0) + 1
        self.breaches.setdefault(rule, detail)

    def test(self, rule: str, kept: bool, detail: str) -> None:
        self.looks[rule] = self.looks.get(rule, 0) + 1
        if not kept:
            self.breaches.setdefault(rule, detail)

    def failed(self, rule: str, where: str, error: Exception) -> None:
        """An exception breaks `rule`; an answer that was refused breaks the rule for what was wrong in it."""
        if isinstance(error, BadAnswer):
            rule = _OF_FIELD.get(error.field, rule)
        what = str(error) if isinstance(error, EnvironmentsError) else f"{type(error).__name__}: {error}"
        self.broken(rule, f"{where}{what}")

    def listen(self, env: TextEnv) -> None:
        """Look at what `env` says before it is put right."""
        begin, act = env.begin, env.act

        def heard(turn: Turn) -> Turn:
            for name in ("observation", "goal", "state"):
                text = getattr(turn, name, "")
                whole = not isinstance(text, str) or text.isascii() or not _HALVES.search(text)
                self.test("text", whole, f"the {name} has half a character in it: {ascii(text)[:200]}")
            return turn

        env.begin = lambda task: heard(begin(task))  # type: ignore[method-assign]
        env.act = lambda action: heard(act(action))  # type: ignore[method-assign]

    def closed(self, env: TextEnv) -> None:
        """Close it, and see whether that can be done."""
        try:
            close(env)
            self.test("close", True, "")
        except Exception as error:
            self.failed("close", "", error)

    def report(self, env_id: str) -> Report:
        findings = []
        for rule, meaning in RULES.items():
            if rule in self.breaches:
                findings.append(Finding(rule, False, self.breaches[rule]))
            elif rule == "makes" or rule in self.looks:
                findings.append(Finding(rule, True, meaning))
        return Report(env_id, findings)

    def play(self, env: TextEnv, other: TextEnv, task: Task) -> None:
        """An episode of a random player, which is then repeated in `other` and in `env`."""
        rng = random.Random(f"{self.rng_seed} {task.id}")
        try:
            observation, info = env.start(task)
        except Exception as error:
            self.failed("makes", f"{task.id}: it cannot begin: ", error)
            return
        begun = (observation, dict(info))
        over = bool(info.get("won") or info.get("lost"))
        self.test("begins", not over, f"{task.id} is over before the first action")
        self._info(task, info, goal=str(info.get("goal")), running=not over)
        lived: list[tuple[str, tuple[Any, ...]]] = []
        while not over and len(lived) <= env.step_limit:
            commands = info.get("admissible_commands") or [NONSENSE, *observation.split()[:20]]
            action = NONSENSE if len(lived) == 1 else rng.choice(commands)
            try:
                turn = env.step(action)
            except Exception as error:
                rule = "any action" if action == NONSENSE else "makes"
                self.failed(rule, f"{task.id}: after `{action}`: ", error)
                return
            if action == NONSENSE:
                self.test("any action", True, "")
            lived.append((action, (*turn[:4], dict(turn[4]))))
            observation, reward, terminated, truncated, info = turn
            over = terminated or truncated
            self._info(task, info, goal=str(begun[1].get("goal")), running=not over)
            self.test("reward", math.isfinite(reward), f"{task.id}: `{action}` was rewarded with {reward}")
            self._end(task, info, terminated)
        kept = over and len(lived) <= env.step_limit
        self.test("step limit", kept, f"{task.id}: {len(lived)} steps were not the end, the limit is {env.step_limit}")
        self._repeat(other, task, begun, lived)
        self._repeat(env, task, begun, lived)

    def compare_folds(self, env: TextEnv, starts: int) -> None:
        """First observations of dev and test against those of train."""
        seen: dict[str, set[str]] = {}
        for split in SPLITS:
            seeds = list(env.fold(split)[:starts])
            self.test("folds", bool(seeds), f"fold {split} has no seeds")
            seen[split] = set()
            for seed in seeds:
                observation, info = env.start(Task(env=env.env_id, split=split, seed=seed))
                seen[split].add(f"{info['goal']}\n{observation}\n{info['state']}")
        for split in ("dev", "test"):
            same = len(seen[split] & seen["train"])
            self.test(
                "folds",
                2 * same <= len(seen[split]),
                f"{same} of {len(seen[split])} different starts of {split} are starts of train too",
            )

    def _info(self, task: Task, info: Info, *, goal: str, running: bool) -> None:
        for key, kind in _TYPES.items():
            self.test("info", isinstance(info.get(key), kind), f"{task.id}: `{key}` is {info.get(key)!r}")
        commands = info.get("admissible_commands")
        kept = isinstance(commands, list) and all(isinstance(command, str) and command for command in commands)
        kept = kept and commands == sorted(set(commands or ())) and (bool(commands) or not running)
        self.test("commands", kept or commands is None, f"{task.id}: they are {_short(commands)}")
        self.test("goal", bool(goal) and info.get("goal") == goal, f"{task.id}: it is {info.get('goal')!r}")
        self.test("state", bool(info.get("state")), f"{task.id}: it is {info.get('state')!r}")
        score = info.get("score")
        kept = isinstance(score, int | float) and 0.0 <= score <= 1.0
        self.test("score", kept, f"{task.id}: it is {score}")

    def _end(self, task: Task, info: Info, terminated: bool) -> None:
        won, lost, score = bool(info.get("won")), bool(info.get("lost")), info.get("score")
        what = f"{task.id}: terminated={terminated}, won={won}, lost={lost}, score={score}"
        self.test("end", terminated == (won or lost) and not (won and lost) and (not won or score == 1), what)

    def _repeat(self, env: TextEnv, task: Task, begun: Any, lived: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
        observation, info = env.start(task)
        self.test("same seed", (observation, dict(info)) == begun, f"{task.id} began differently the second time")
        for step, (action, expected) in enumerate(lived):
            turn = env.step(action)
            kept = (*turn[:4], dict(turn[4])) == expected
            self.test("replay", kept, f"{task.id}: step {step}, `{action}`, came out differently the second time")
            if turn[2] or turn[3]:
                break


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
