"""A lab as large as years of work would make it, in a minute: the same one each time.

Its records are those that play would write (payloads, words, states, versions, recalls with their odds), and go into
the tables by `executemany`, in one transaction.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentlab import Lab, LabConfig
from agentlab.engines.scripted import ScriptedEngine
from agentlab.experiments.evaluation import Row, Table
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.learned_calls import LearnedCall, LearnedTool
from memory import Advice, Episode, Reflection, Step
from memory.records import Evidence, Usage, state_key
from memory.store import Connection
from memory.store.reflections import stamp
from trainers.adapters.record import AdapterRecord
from trainers.gate import GateConfig, paired, wilson
from trainers.lineage import Lineage

ENVS = ("twx/coin", "twx/mapreader", "twx/peckingorder", "twx/cookingworld", "textworld/quest", "toy/doors")
ARMS = ("base", "base + retry", "base + memory", "adapter", "adapter + memory", "random")
SPLITS = ("train",) * 7 + ("dev", "dev", "test")
STATUSES = ("won",) * 9 + ("lost",) * 5 + ("truncated",) * 5 + ("errored",)
KINDS = ("grounded", "grounded", "written", "exemplar", "contrast")
LIVES = ("active",) * 14 + ("benched", "forgotten", "merged", "merged", "repeated", "retired")
ROOMS = ("kitchen", "pantry", "cellar", "attic", "garage", "library", "chamber", "studio", "backyard", "laundry room")
THINGS = ("coin", "map", "red key", "cookbook", "knife", "lantern", "raw carrot", "instructions book", "silver key")
DAY = 1000
"""Episodes a day."""

ROUNDS = ADAPTERS = 20
TOOLS = ("calculator", "notes")
OPERATIONS = 400


def episode_id(number: int) -> str:
    """The id of an episode."""
    return f"ep-{number:016d}"


def reflection_id(number: int) -> str:
    """The id of what was learned from the episode with this number."""
    return f"r-{number:016d}"


def adapter_id(number: int) -> str:
    """The id of an adapter."""
    return f"adapter-{number:016d}"


def moment(number: int) -> str:
    """When the episode with this number was played."""
    day, rest = divmod(number, DAY)
    second = rest * 86400 // DAY
    return (
        f"{2023 + day // 336}-{day // 28 % 12 + 1:02d}-{day % 28 + 1:02d}"
        f"T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.000000+00:00"
    )


def steps(chance: random.Random, n: int) -> list[Step]:
    """Steps as long as those of a text game, with the parts of every score."""
    found = []
    for index in range(n):
        room, next_room = chance.choice(ROOMS), chance.choice(ROOMS)
        thing = chance.choice(THINGS)
        seen = f"You are in the {room}. You see a stove, a closed fridge, an empty counter and a {thing}. To the North "
        seen += (
            f"you see the {next_room}. To the South you see a closed door, that leads to the {chance.choice(ROOMS)}."
        )
        commands = [f"take {thing}", "look around", "inventory", f"open door to {next_room}", "move north", "wait"]
        commands += [f"put {thing} in {chance.choice(('fridge', 'counter', 'stove'))}", "move south", "open fridge"]
        found.append(
            Step(
                index=index,
                observation=seen,
                state=f"{seen}\nInventory: a {thing}.\nScore: {index / n:.2f}",
                admissible=commands,
                action=chance.choice(commands),
                result=f"You move to the {next_room}.",
                next_state=f"You are in the {next_room}.\nInventory: a {thing}.\nScore: {(index + 1) / n:.2f}",
                reward=1 / n,
                score=(index + 1) / n,
                logprob=-chance.random(),
                scores=[round(-9 * chance.random(), 4) for _ in commands],
                bonus=[round(chance.random(), 4) for _ in commands],
            )
        )
    return found


def episodes(n: int) -> Iterator[tuple[Any, ...]]:
    """Rows of the table of episodes, with their payloads."""
    chance = random.Random(0)
    kept = [steps(chance, chance.randint(4, 24)) for _ in range(40)]
    for number in range(n):
        env, arm, status = ENVS[number % len(ENVS)], chance.choice(ARMS), chance.choice(STATUSES)
        lived = kept[number % len(kept)]
        tokens = 60 * len(lived)
        episode = Episode(
            id=episode_id(number),
            run=f"run-{number * 40 // n:02d}",
            env=env,
            split=chance.choice(SPLITS),
            seed=number // len(ENVS) % 500,
            trial=number % 4,
            arm=arm,
            engine="SmolLM2-135M-Instruct",
            adapter=adapter_id(number * ADAPTERS // n) if arm.startswith("adapter") else None,
            goal=f"Find the {chance.choice(THINGS)} and take it to the {chance.choice(ROOMS)}.",
            recalled=[reflection_id((7 * number + rank) % n) for rank in range(3)] if "memory" in arm else [],
            status=status,
            score=1.0 if status == "won" else round(chance.random(), 2),
            error="The environment gave no answer within 60 s." if status == "errored" else None,
            error_kind=chance.choice(("timeout", "environment", "engine")) if status == "errored" else None,
            token_ids=[(number + place) % 49152 for place in range(tokens)],
            action_spans=[(60 * place + 50, 60 * place + 60) for place in range(len(lived))],
            started_at=moment(number),
            seconds=2.5 + chance.random(),
            usage=Usage(input_tokens=tokens, output_tokens=10 * len(lived), cost=1e-6 * tokens),
        )
        head, took = episode.model_dump_json(), episode.usage
        # The steps are written once: the rest of an episode is quick.
        payload = zlib.compress(head.replace('"steps":[]', f'"steps":{_text(lived)}', 1).encode(), 1)
        yield (
            number + 1, episode.id, episode.run, env, episode.split, episode.seed, episode.task_id, episode.trial, arm,
            episode.engine, episode.adapter, status, episode.score, len(lived), episode.goal, episode.error, None,
            episode.started_at, episode.seconds, episode.error_kind, took.input_tokens, took.output_tokens, took.cost,
            payload,
        )  # fmt: skip


_WRITTEN: dict[int, str] = {}


def _text(lived: list[Step]) -> str:
    if id(lived) not in _WRITTEN:
        _WRITTEN[id(lived)] = "[" + ",".join(step.model_dump_json() for step in lived) + "]"
    return _WRITTEN[id(lived)]


def reflections(n: int) -> Iterator[Reflection]:
    """What was learned from each episode."""
    chance = random.Random(1)
    for number in range(n):
        env, status = ENVS[number % len(ENVS)], LIVES[number % len(LIVES)] if number > 20 else "active"
        room, thing = chance.choice(ROOMS), chance.choice(THINGS)
        text = f"The {thing} of game {number} lay in the {room}, behind the {chance.choice(ROOMS)}: open the doors."
        state = f"You are in the {room}. You see a {thing}.\nInventory: nothing.\nScore: 0.{number // 3 % 100:02d}"
        joined = status in ("merged", "repeated")
        yield Reflection(
            id=reflection_id(number),
            kind=KINDS[number % len(KINDS)],
            env=env,
            task=f"{env}:train:{number // len(ENVS) % 500}",
            goal=f"Find the {thing}.",
            text=text,
            advice=[Advice(state=state, action=f"take {thing}", visits=3, value=0.9)] if number % 2 else [],
            evidence=[Evidence(episode=episode_id(number), steps=[0, 2])],
            importance=round(chance.random(), 3),
            tags=[thing.split()[-1]],
            pinned=number % 500 == 0,
            status=status,
            tier="rule" if number % 97 == 0 else "raw",
            source="guest" if number % 50 == 0 else "",
            merged_into=reflection_id(number // 20 * 20) if joined else None,
            run=f"run-{number * 40 // n:02d}",
            created_at=moment(number),
            updated_at=moment(number),
        )


def recalls(n: int) -> Iterator[tuple[Any, ...]]:
    """Two for each episode; some reflections serve thousands of episodes, and one recall in five was held out."""
    chance = random.Random(2)
    for number in range(n):
        won = STATUSES[chance.randrange(len(STATUSES))] == "won"
        chosen = {int(n * chance.random() ** 4), int(n * chance.random())}
        for rank, reflection in enumerate(sorted(chosen)):
            channel = "text" if rank == 0 else "advice"
            lot = channel == "text"
            yield (
                episode_id(number), reflection_id(reflection), channel, rank, f"Find the {THINGS[number % 9]}.",
                round(chance.random(), 4), '{"meaning": 0.71, "words": 0.2, "importance": 0.5, "uplift": 0.1}',
                moment(number), won, ENVS[number % len(ENVS)], lot and chance.random() < 0.2, 0.8 if lot else 1.0,
                None if rank == 0 else number % 7, 1,
            )  # fmt: skip


def tool_uses(n: int) -> Iterator[tuple[Any, ...]]:
    """Two tools in every episode, as if all had been played with some; over one of them a lot was drawn in train games,
    and one in ten was held out."""
    chance, named = random.Random(4), f"?tools={'+'.join(TOOLS)}"
    for number in range(n):
        drawn = chance.choice(TOOLS) if SPLITS[number % len(SPLITS)] == "train" else ""
        status = chance.choice(STATUSES)
        adapter = adapter_id(number * ADAPTERS // n) if chance.random() < 0.5 else ""
        for tool in TOOLS:
            out = tool == drawn and chance.random() < 0.1
            offered = 0 if out else chance.randrange(12)
            yield (
                episode_id(number), tool, ENVS[number % len(ENVS)] + named, "SmolLM2-135M-Instruct",
                adapter, moment(number), None if status == "errored" else status == "won", offered, 3 * offered,
                offered // 5, out, 0.9 if tool == drawn else 1.0,
            )  # fmt: skip


def taught() -> list[LearnedTool]:
    """What a round learned of each tool in each of its games."""
    call = LearnedCall(
        episode=episode_id(0), seed=0, step=2, seen="You are in the kitchen. " * 12, call="calculate 34 * 5",
        answer="34 * 5 = 170: 170 tangerines.", action="take 170 tangerines", gain=3.2,
    )  # fmt: skip
    return [
        LearnedTool(
            tool=tool, env=f"{env}?tools={'+'.join(TOOLS)}", calls=150, episodes=120, gain=2.5, examples=[call] * 5
        )
        for tool in TOOLS
        for env in ENVS[:3]
    ]


def fill(connection: Connection, n: int) -> None:
    """Episodes, reflections with their words, states, versions and links, recalls, operations and events."""
    put = connection.executemany
    put(f"INSERT INTO episodes VALUES ({', '.join('?' * 24)})", _ordered(connection, episodes(n)))
    words, states, advice, versions, rows = [], [], [], [], []
    for number, item in enumerate(reflections(n), 1):
        payload = zlib.compress(item.model_dump_json().encode(), 1)
        text = "" if item.status == "repeated" else item.text
        rows.append(
            (
                number, item.id, item.kind, item.env, item.task, item.run, item.status, item.pinned, item.importance,
                text, json.dumps(item.tags), item.created_at, number, stamp(text), payload, "", item.source, item.tier,
                item.merged_into,
            )
        )  # fmt: skip
        versions.append((number, 1, item.created_at, "written", payload, None))
        if text:
            words.append((number, text))
        for place, one in enumerate(item.advice):
            states.append((item.env, state_key(one.state), number, one.state))
            advice.append((number, place, item.env, state_key(one.state)))
    put(
        "INSERT INTO reflections (number, id, kind, env, task, run, status, pinned, importance, text, tags, "
        "created_at, changed, stamp, payload, namespace, source, tier, merged_into) "
        f"VALUES ({', '.join('?' * 19)})",
        rows,
    )
    put("INSERT INTO reflections_fts (rowid, text) VALUES (?, ?)", words)
    put("INSERT INTO states (env, key, stamp, text) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", states)
    put("INSERT INTO advice SELECT ?, ?, number FROM states WHERE env = ? AND key = ?", advice)
    put(
        "INSERT INTO recalls (episode, reflection, channel, rank, query, score, parts, at, won, env, held_out, "
        f"propensity, step, counted) VALUES ({', '.join('?' * 14)})",
        recalls(n),
    )
    put(f"INSERT INTO tool_uses VALUES ({', '.join('?' * 12)})", tool_uses(n))
    put(
        "INSERT INTO links (source, target, kind, weight, at) VALUES (?, ?, 'similar', 0.9, ?)",
        [(reflection_id(number), reflection_id(number + 1), moment(number)) for number in range(0, n - 1, 5)],
    )
    for number in range(1, OPERATIONS + 1):
        name, size = ("consolidate", n // 100) if number % 100 == 0 else ("bench", 1)
        at = moment(n - 1 - OPERATIONS + number)
        put(
            "INSERT INTO operations (number, id, at, name, detail) VALUES (?, ?, ?, ?, ?)",
            [(number, f"op-{number:016d}", at, name, "it misleads")],
        )
        first = number * 37 % (n - size)
        versions += [
            (first + place + 1, 1 + number, at, name, rows[first + place][14], number) for place in range(size)
        ]
    put("INSERT INTO reflection_versions VALUES (?, ?, ?, ?, ?, ?)", versions)
    put(
        "INSERT INTO events (at, kind, stage, done, total, note) VALUES (?, ?, 'Playing', ?, ?, '')",
        [(moment(number), "start" if number % 500 == 0 else "advance", number % 500, 500) for number in range(n // 2)],
    )


def _ordered(connection: Connection, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The rows in the order in which the table has its columns: later versions added theirs behind the payload."""
    names = (
        "number", "id", "run", "env", "split", "seed", "task", "trial", "arm", "engine", "adapter", "status", "score",
        "steps", "goal", "error", "minimised_from", "started_at", "seconds", "error_kind", "input_tokens",
        "output_tokens", "cost", "payload",
    )  # fmt: skip
    places = [names.index(row[1]) for row in connection.execute("PRAGMA table_info(episodes)")]
    for row in rows:
        yield tuple(row[place] for place in places)


def _outcomes(chance: random.Random, split: str, games: int, rate: float) -> dict[str, bool]:
    return {f"{env}:{split}:{seed}": chance.random() < rate for env in ENVS[:3] for seed in range(games)}


def _interval(outcomes: dict[str, bool]) -> dict[str, Any]:
    won, n = sum(outcomes.values()), len(outcomes)
    low, high = wilson(won, n)
    return {"won": won, "n": n, "low": low, "high": high}


def results(lab: Lab, n: int) -> None:
    """Rounds with their gates, adapters in a line, and evaluations."""
    chance = random.Random(3)
    for number in range(ROUNDS):
        with_it, without = _outcomes(chance, "dev", 30, 0.5), _outcomes(chance, "dev", 30, 0.4)
        pairs = paired(with_it, without)
        promoted = number % 3 != 2
        gate = {
            "promote": promoted, "reason": f"won {sum(with_it.values())} of 90 against {sum(without.values())}",
            "candidate": _interval(with_it), "incumbent": _interval(without), "paired": pairs.model_dump(),
            "envs": {}, "regressions": [], "errored": 0, "unpaired": 0, "config": GateConfig().model_dump(),
            "looks": [], "planned": 90, "saved": 0, "challenge": 1,
        }  # fmt: skip
        first = number * n // ROUNDS
        lineage = Lineage(
            round=f"round-{number + 1}",
            parent=adapter_id(number - 1) if number else None,
            episodes=[episode_id(first + place) for place in range(0, min(400, n // ROUNDS))],
            seeds=[0],
        )
        record = AdapterRecord(
            id=adapter_id(number), parent=lineage.parent, base="SmolLM2-135M-Instruct", fingerprint="f" * 64,
            status="promoted" if promoted else "rejected", path=f"adapters/{adapter_id(number)}", weights="0" * 64,
            lineage=lineage, job=f"job-{number}", gate=gate, created_at=moment(first),  # type: ignore[arg-type]
        )  # fmt: skip
        lab.adapters.records.put(record)
        report = RoundReport(
            id=f"round-{number + 1}", number=number + 1, config=RoundConfig(envs=list(ENVS[:3])), phase="done",
            started_at=moment(first), ended_at=moment(first + 1), incumbent=lineage.parent, adapter=record.id,
            collected={"random": {"tasks": 900, "won": 700}}, selected={env: 130 for env in ENVS[:3]},
            left_out={"minimised": 300, "duplicate": 40, "environment is full": 900},
            training={"examples": 400, "steps": 200, "first_loss": 1.5, "last_loss": 0.1, "seconds": 125.8},
            gate=gate, promoted=promoted, tools=taught(),
        )  # fmt: skip
        lab.database.rounds.put(report.id, report.model_dump(mode="json"))
        job = lab.folder / "jobs" / report.id
        job.mkdir(parents=True)
        losses = [1.5 * 0.98**step + 0.1 * chance.random() for step in range(600)]
        (job / "report.json").write_text(json.dumps({"steps": 600, "examples": 400, "losses": losses}))
    lab.database.settings.put("serving adapter", adapter_id(ADAPTERS - 2))
    for number in range(10):
        rows = []
        for arm in ARMS:
            outcomes = _outcomes(chance, "test", 100, 0.3 + 0.05 * len(arm) / 4)
            cells = {}
            for env in (*ENVS[:3], "all"):
                found = _interval({task: won for task, won in outcomes.items() if env in ("all", task.split(":")[0])})
                cells[env] = {"wins": found["won"], **found, "score": found["won"] / found["n"]}
                del cells[env]["won"]
            rows.append(Row.model_validate({"arm": arm, "trials": 1, "cells": cells, "outcomes": outcomes}))
        about = {"name": f"table-{number}", "date": moment(n - 1), "split": "test", "seeds": [0, 99], "trials": 1}
        table = Table(envs=list(ENVS[:3]), rows=rows, about=about).compare_with_base()
        lab.database.evaluations.put(f"table-{number}", table.model_dump(mode="json"))


def make(folder: Path, n: int) -> Path:
    """The lab in `folder`, with `n` episodes and as many reflections."""
    config = LabConfig(embedder="hashing", threads=1)
    with Lab.open(folder, create=True, config=config, engine=ScriptedEngine({}), progress=False) as lab:
        with lab.database.transaction() as connection:
            fill(connection, n)
            results(lab, n)
        lab.database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        lab.memory.save()  # the index of meanings too, as play leaves it
    return folder
