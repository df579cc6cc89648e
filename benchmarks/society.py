"""What multiagent finetuning is worth: generators and critics, one adapter from as many attempts, and the base.

    python benchmarks/society.py [--folder FOLDER] [--games N] [--explored N] [--rounds N] [--seeds N] [--env ENV]

A novice plays (`novices.py`). For each seed there are two labs: in one a society plays and is trained (`society`), in
the other the base, later its adapter, plays as many attempts at the same games with the same random numbers, and one
adapter is trained on all that won (ReST-EM). Then all play the same dev games, which nothing was learned from, as often
as a society does: 2 × agents attempts, at temperature 1, whatever a gate said. Of these are told: the first; whether
any won; whether the sequence of actions that most attempts came to won (of a society: most critics, the earliest of
several); and how many different sequences there are among the first half, and among those that won.
The labs stay in the folder, and the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import describe
from novices import TOY, novice, rate, told

from agentlab import Lab, LabConfig, RoundConfig
from agentlab.agent.arms import Arm, society_arm
from agentlab.agent.rollout import rollout_of
from agentlab.agent.society import Society, trained
from agentlab.agent.tasks import make_tasks
from agentlab.bars import Lines
from agentlab.experiments.collection import explorer
from agentlab.protocols.running import DEV_FIRST, ended_round
from agentlab.rounds import RoundReport
from agentlab.rounds.sampling import sample
from memory.records import Episode
from trainers.gate import paired

Attempts = Mapping[str, Sequence[Episode]]
"""By game, what an arm came to in each of its attempts."""


def main() -> None:
    """Print a table of all arms over all seeds, and the pairs."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--folder", type=Path, default=Path("labs-society"))
    options.add_argument("--env", default=TOY)
    options.add_argument("--games", type=int, default=50, help="dev games of each seed")
    options.add_argument("--explored", type=int, default=40, help="train games of a round")
    options.add_argument("--agents", type=int, default=3)
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--learning-rate", type=float, default=5e-3)
    options.add_argument("--epochs", type=int, default=4)
    options.add_argument("--target", choices=["outcome", "votes"], default="outcome")
    asked = options.parse_args()
    config = LabConfig(model=str(novice(asked.folder / "novice", asked.env)), threads=1, embedder="hashing")
    print(
        f"{asked.env}: {asked.agents} generators and as many critics, {asked.explored} train games a round; learning "
        f"rate {asked.learning_rate:g}, {asked.epochs} epochs, target {asked.target}; {describe(1)}\n"
    )
    measured: dict[str, dict[str, Sequence[Episode]]] = defaultdict(dict)
    for seed in range(asked.seeds):
        for name, attempts in _seed(asked, seed, config).items():
            measured[name] |= attempts
    print("| who | first attempt | any of all | by votes | different | different wins |\n|---|---|---|---|---|---|")
    for name, attempts in measured.items():
        print(
            f"| {name} | {rate(first(attempts))} | {rate(within(attempts))} | {rate(_votes(name, attempts))} "
            f"| {different(attempts):.2f} | {different_wins(attempts):.2f} |",
            flush=True,
        )
    print("\n| paired by game and seed | first attempt | any of all | by votes |\n|---|---|---|---|")
    for one, other in _pairs(asked.rounds):
        a, b = measured[one], measured[other]
        votes = told(paired(_votes(one, a), _votes(other, b)))
        cells = (told(paired(told_by(a), told_by(b))) for told_by in (first, within))
        print(f"| {one} against {other} | {' | '.join(cells)} | {votes} |")


def _pairs(rounds: int) -> list[tuple[str, str]]:
    found = [("society, untrained", "base")]
    for number in range(1, rounds + 1):
        society, single = f"society, round {number}", f"one adapter, round {number}"
        found += [(single, "base"), (society, "base"), (society, "society, untrained"), (society, single)]
        found += [(society, f"generator 1 alone, round {number}")]
    return [*found, (f"society, round {rounds}", "base + its trials")]


def _seed(asked: argparse.Namespace, seed: int, config: LabConfig) -> dict[str, Attempts]:
    """Train both ways, and have all play the dev games of a seed."""
    first_game, many = DEV_FIRST + seed * asked.games, 2 * asked.agents
    seeds, found = range(first_game, first_game + asked.games), dict[str, Attempts]()
    # A gate of 20 games a round; a round is promoted whatever it says, so that the next one is played by what it made.
    common = {
        "envs": [asked.env], "seeds": asked.explored, "gate_seeds": 20, "seed": seed, "retire": "off",
        "forgetting": {"seeds": 0},
        "training": {"learning_rate": asked.learning_rate, "epochs": asked.epochs},
    }  # fmt: skip
    own = {**common, "society": {"agents": asked.agents, "target": asked.target}}
    every = {"cap_per_task": 10, "cap_per_env": None}
    union = {**common, "collect": "none", "selection": every}
    with Lab.open(asked.folder / f"single-{seed}", create=True, config=config, progress=Lines()) as lab:
        found["base"] = _sampled(lab, asked, None, seeds)
        found["base + its trials"] = _played(lab, asked, explorer(None, 1.0), seeds)
        for number in range(1, asked.rounds + 1):
            games = make_tasks([asked.env], "train", range((number - 1) * asked.explored, number * asked.explored))
            # Not what serves: when this is done again, that may be of a later round.
            player = lab.rounds()[number - 2].adapter if number > 1 else None
            run = f"attempts of round {number}"
            sample(lab, run, games, adapter=player, temperature=1.0, trials=many, seed=seed)
            report = _round(lab, number, union)
            found[f"one adapter, round {number}"] = _sampled(lab, asked, report.adapter, seeds)
    with Lab.open(asked.folder / f"society-{seed}", create=True, config=config, progress=Lines()) as lab:
        untrained = Society.alike(None, asked.agents, told=asked.target == "outcome")
        found["society, untrained"] = _played(lab, asked, society_arm(untrained), seeds)
        for number in range(1, asked.rounds + 1):
            report = _round(lab, number, own)
            society = trained(lab, report.id).society
            found[f"society, round {number}"] = _played(lab, asked, society_arm(society), seeds)
            found[f"generator 1 alone, round {number}"] = _sampled(lab, asked, report.society["generator 1"], seeds)
    return found


def _round(lab: Lab, number: int, settings: Mapping[str, Any]) -> RoundReport:
    report = ended_round(lab, number - 1, RoundConfig.model_validate(settings))
    if lab.serving() != report.adapter and number == len(lab.rounds()) and report.adapter is not None:
        lab.adapters.promote(report.adapter, force=True)
    return report


def _sampled(lab: Lab, asked: argparse.Namespace, adapter: str | None, seeds: Sequence[int]) -> Attempts:
    tasks = make_tasks([asked.env], "dev", seeds)
    return _by_game(sample(lab, "measured", tasks, adapter=adapter, temperature=1.0, trials=2 * asked.agents, seed=0))


def _played(lab: Lab, asked: argparse.Namespace, arm: Arm, seeds: Sequence[int]) -> Attempts:
    rollout = rollout_of(lab, "measured", arm, seed=0)
    try:
        results = rollout.play(make_tasks([asked.env], "dev", seeds), arm, trials=2 * asked.agents, until_won=False)
    finally:
        rollout.close()
    return _by_game(lab.database.episodes.load([trial.episode for one in results for trial in one.trials]))


def _by_game(episodes: Sequence[Episode]) -> Attempts:
    found: dict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        assert episode.status != "errored", episode.error
        found[episode.task_id].append(episode)
    return found


def actions(episode: Episode) -> tuple[str, ...]:
    """The sequence of actions that an attempt came to."""
    return tuple(step.action for step in episode.steps)


def first(attempts: Attempts) -> dict[str, bool]:
    """Whether the first attempt at each game won."""
    return {game: played[0].won for game, played in attempts.items()}


def within(attempts: Attempts) -> dict[str, bool]:
    """Whether any did."""
    return {game: any(one.won for one in played) for game, played in attempts.items()}


def by_votes(attempts: Attempts, voting: Callable[[Sequence[Episode]], Sequence[Episode]]) -> dict[str, bool]:
    """Whether the sequence of actions that most of those `voting` came to won; of several, the earliest."""
    found = {}
    for game, played in attempts.items():
        ballots = voting(played)
        votes = Counter(map(actions, ballots))
        found[game] = max(ballots, key=lambda one: votes[actions(one)]).won
    return found


def _votes(name: str, attempts: Attempts) -> dict[str, bool]:
    """Of a society its critics vote, of another all attempts do."""
    return by_votes(attempts, lambda played: played[len(played) // 2 :] if name.startswith("society") else played)


def different(attempts: Attempts) -> float:
    """Different sequences of actions among the first half of the attempts at a game (of a society: its generators)."""
    return _mean([len({actions(one) for one in played[: len(played) // 2]}) for played in attempts.values()])


def different_wins(attempts: Attempts) -> float:
    """Different sequences of actions that won, among all attempts at a game."""
    return _mean([len({actions(one) for one in played if one.won}) for played in attempts.values()])


def _mean(values: Sequence[int]) -> float:
    return sum(values) / max(len(values), 1)


if __name__ == "__main__":
    main()
