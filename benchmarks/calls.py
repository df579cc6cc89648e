"""Calls of tools written into successes: one pass for all calls of a step against a pass over all for each.

    python benchmarks/calls.py [--games N] [--env ENV] [--model M] [--threads N]

Random exploration wins some games; then both ways go through the same successes, and must write the same calls. The
plain way is that of Toolformer's paper: for each step and each call the whole text up to there is scored again. The
exit code is 1 if a call differs, a gain by more than 0.05 nats, or fewer than 10 times as many episodes are done.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from machine import describe

from agentlab import Lab, LabConfig
from agentlab.engines.base import Aside
from agentlab.engines.model import Model
from agentlab.search.calls import CallsConfig, Kept, best_call, speaks_for, with_best_calls, write_calls
from agentlab.trajectories.environment_pool import EnvironmentPool
from agentlab.trajectories.transition import Decision, Game
from environments import Task
from environments.tools import WithTools
from memory.records import Episode
from memory.store import EpisodeFilter

RATIO, APART = 10.0, 0.05
COLUMNS = (
    "successes", "steps", "calls tried", "with calls", "s an episode, plainly", "in one pass", "ratio", "same calls",
    "max Δ gain",
)  # fmt: skip


def plainly(model: Model, env: WithTools, episode: Episode, config: CallsConfig) -> list[Kept]:
    """The calls by a pass over the whole text for each candidate."""
    game = Game(env, Task(env=episode.env, split=episode.split, seed=episode.seed))
    said: list[tuple[str, str]] = []

    def logprob(action: str, *asides: Aside) -> float:
        talk = model.conversation(game.goal)
        talk.observe(first)
        for command, answer in [*said, *((aside.command, aside.answer) for aside in asides)]:
            talk.act(command)
            talk.observe(answer)
        start = len(talk.token_ids)
        talk.act(action)
        ids = list(talk.token_ids)
        talk.close()
        return model.engine.logprob(ids, [(start, len(ids))], model.adapter)

    def play(action: str) -> None:
        game.step(Decision(action, game.admissible() or []))
        said.append((action, game.observation))

    first, last, found = game.observation, "", dict[int, list[Kept]]()
    for number, action in enumerate(episode.actions):
        if game.ended or env.is_call(action):
            continue
        proposed = env.proposed()
        if proposed and (alone := logprob(action)) < -config.unsure:
            others, helps = [one for one in game.admissible() or () if not env.is_call(one)], list[tuple[float, Kept]]()
            for call in proposed:
                told = Aside(call, env.answer_to(call))
                if speaks_for(action, told.answer, others):
                    after = logprob(action, told)
                    gain = after - max(alone, logprob(action, Aside(call, "")))
                    if gain > config.gain:
                        helps.append((logprob(call) + after, Kept(call, action, gain, env.called(call))))
            found[number] = [kept for _, kept in sorted(helps, key=lambda one: -one[0])]
            if helps:
                last = best_call([found[number]], last).call
                play(last)
        if not game.ended:
            play(action)
    return with_best_calls(env, episode, found)[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a bound is broken."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--env", default="twx/arithmetic?tools=calculator")
    options.add_argument("--games", type=int, default=40, help="games that are explored")
    options.add_argument("--most", type=int, default=12, help="successes that are gone through")
    options.add_argument("--model", default="SmolLM2-135M-Instruct")
    options.add_argument("--threads", type=int, default=1)
    given = options.parse_args(arguments)
    config, pool = CallsConfig(), EnvironmentPool()
    with tempfile.TemporaryDirectory() as folder:
        settings = LabConfig(model=given.model, embedder="hashing", dtype="float32", threads=given.threads)
        with Lab.open(Path(folder) / "lab", create=True, config=settings, progress=False) as lab:
            bare = given.env.partition("?")[0]
            lab.explore(bare, seeds=range(given.games), trials=80)
            rows = lab.database.episodes.find(EpisodeFilter(status="won"))
            refined = {row.minimised_from for row in rows}
            chosen = [row.id for row in rows if row.id not in refined][: given.most]
            wins = [one.model_copy(update={"env": given.env}) for one in lab.database.episodes.load(chosen)]
            model = lab.model(None)
            list(write_calls(model, pool.lent, wins[:1], config))
            began = time.perf_counter()
            with pool.lent(given.env) as env:
                plain = [plainly(model, env, episode, config) for episode in wins]
            slow = time.perf_counter() - began
            began = time.perf_counter()
            quick = {episode.id: called for episode, called in write_calls(model, pool.lent, wins, config)}
            fast = time.perf_counter() - began
    pool.close()
    found = [quick[episode.id].calls for episode in wins]
    same = sum([k[:2] for k in a] == [k[:2] for k in b] for a, b in zip(plain, found, strict=True))
    apart = max(
        [abs(x.gain - y.gain) for a, b in zip(plain, found, strict=True) for x, y in zip(a, b, strict=False)] or [0]
    )
    tried = sum(called.tried for called in quick.values())
    with_calls = sum(called.episode is not None and bool(called.calls) for called in quick.values())
    print(f"{given.model}, float32, {given.env}; {describe(given.threads)}\n")
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    steps = sum(len(episode.steps) for episode in wins)
    print(
        f"| {len(wins)} | {steps} | {tried} | {with_calls} | {slow / len(wins):.2f} | {fast / len(wins):.2f} "
        f"| {slow / fast:.1f} | {same} of {len(wins)} | {apart:.1e} |"
    )
    for called in list(quick.values())[:5]:
        print("  " + "; ".join(f"{k.call} → {k.action} (+{k.gain:.1f})" for k in called.calls) + (called.reason or ""))
    broken = same < len(wins) or apart > APART or slow / fast < RATIO
    print("\n" + ("BROKEN" if broken else "All bounds hold."))
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
