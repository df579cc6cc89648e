"""What pairs of preferences by a judge are worth: how often a model that judges is right, and what a round learns.

    python benchmarks/judges.py judge [--env ENV ...] [--model M] [--tasks N] [--folder FOLDER]
    python benchmarks/judges.py rounds [--folder FOLDER] [--games N] [--seeds N]

`judge` has a model judge one won and one lost attempt at each of some train games, as chance played them, and counts
how often it prefers the one that was won. `rounds` has the novice of `novices.py` explore, and trains it by DPO on one
pair a game: by the game's own score, or by a *simulated* judge, which measures no judge: a server on this machine that
is right in a share q of the games, by lot, and in all others prefers the worst to the best. Before and after are played
as in `grpo.py`. The labs stay in the folder, and the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from machine import describe
from novices import TOY, drawn, novice, rate, told

from agentlab import Lab, LabConfig, RoundConfig
from agentlab.bars import Lines
from agentlab.errors import AgentLabError
from agentlab.protocols.running import DEV_FIRST, ended_round
from agentlab.reflectors.experimental.judging import BEST, judging_prompt
from agentlab.rounds import RoundReport, abandon, run_round
from agentlab.rounds.judging import ALIKE, DIFFER
from memory.records import Episode
from memory.store import EpisodeFilter
from trainers.gate import p_text, paired, wilson

REWARD = "the game's score"
RIGHT = (0.5, 0.7, 0.9, 1.0)


def main() -> None:
    """Print one of the two tables."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("what", choices=("judge", "rounds"))
    options.add_argument("--folder", type=Path, default=Path("labs-judges"))
    options.add_argument("--env", nargs="+", default=["twx/coin", TOY])
    options.add_argument("--model", default="SmolLM2-135M-Instruct", help="who judges")
    options.add_argument("--tasks", type=int, default=40, help="train games of each environment that are judged")
    options.add_argument("--samples", type=int, default=3, help="judgements of an attempt")
    options.add_argument("--games", type=int, default=100, help="dev games of each seed")
    options.add_argument("--explored", type=int, default=150, help="train games of a round")
    options.add_argument("--group", type=int, default=8, help="attempts at each of them")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--right", type=float, nargs="*", default=RIGHT, help="q of the simulated judges")
    options.add_argument("--tolerance", type=float, default=0.1, help="of the length rule, in the last row")
    options.add_argument("--learning-rate", type=float, default=1e-3)
    options.add_argument("--epochs", type=int, default=4)
    options.add_argument("--threads", type=int, default=1)
    asked = options.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    print(describe(asked.threads), end="\n\n")
    (judged if asked.what == "judge" else rounds)(asked)


# -- how often a model is right ----------------------------------------------------------------------------------------


def judged(asked: argparse.Namespace) -> None:
    """A row for each environment."""
    print("| judge | game | attempts | judgements read | games told apart | won one preferred | against .5 |")
    print("|---|---|---|---|---|---|---|")
    for env in asked.env:
        config = LabConfig(model=asked.model, threads=asked.threads, embedder="hashing")
        name = env.split("?")[0].replace("/", "-")
        with Lab.open(asked.folder / f"explored-{name}", create=True, config=config, progress=Lines()) as lab:
            sides = _sides(lab, env, asked.tasks)
        with Lab.open(asked.folder / f"judged-{name}", create=True, config=config, progress=Lines()) as lab:
            for episode in sides:
                lab.database.episodes.put(episode)
            report = _judged(lab, env, asked.samples)
        counts = report.judged
        n, right = counts.get(DIFFER, 0), counts.get(ALIKE, 0)
        low, high = wilson(right, n)
        share = f"{right / n:.2f} ({right}/{n}) [{low:.2f}, {high:.2f}]" if n else "none"
        against = f"p = {p_text(_two_sided(right, n))}" if n else ""
        print(
            f"| {asked.model} | {env} | {counts['attempts']} "
            f"| {counts['of which could be read']} of {counts['judgements']} | {n} of {counts['attempts'] // 2} "
            f"| {share} | {against} |",
            flush=True,
        )


def _sides(lab: Lab, env: str, most: int) -> list[Episode]:
    """A won and a lost attempt at each of so many train games, as chance plays them."""
    run_round(lab, _config(env, 2 * most, 0, _tries("random", 8), None), until="select")
    ends = dict[int, dict[bool, str]]()
    for row in lab.database.episodes.find(EpisodeFilter(env=env, split="train")):
        if row.status != "errored" and row.minimised_from is None:
            ends.setdefault(row.seed, {}).setdefault(row.status == "won", row.id)
    both = [end for _, end in sorted(ends.items()) if len(end) == 2][:most]
    return [one for end in both for one in lab.database.episodes.load([end[True], end[False]])]


def _judged(lab: Lab, env: str, samples: int) -> RoundReport:
    config = _config(env, 1, 0, {"collect": "none"}, {"samples": samples, "candidates": 2})
    if not lab.rounds():
        try:
            run_round(lab, config, until="train")
        except AgentLabError as error:
            print(f"({error})")
    return lab.rounds()[0]


def _two_sided(right: int, n: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(right, n, 0.5).pvalue)


# -- what a round learns -----------------------------------------------------------------------------------------------


def rounds(asked: argparse.Namespace) -> None:
    """A row for each source of pairs and seed, and one over all seeds."""
    model = str(novice(asked.folder / "novice", TOY))
    print(
        f"{TOY}, a novice: DPO on a pair of each of {asked.explored} games, tried {asked.group} times; learning rate "
        f"{asked.learning_rate:g}, {asked.epochs} passes\n"
    )
    print("| pairs by | seed | pairs | alike | won before | won after | paired |")
    print("|---|---|---|---|---|---|---|")
    arms = [(REWARD, None, 0.0)]
    arms += [(f"a simulated judge, right in {q:g}", q, 0.0) for q in asked.right]
    arms += [(f"the same, right in 1, length rule with ρ = {asked.tolerance:g}", 1.0, asked.tolerance)]
    for name, right, tolerance in arms:
        before, after = dict[str, bool](), dict[str, bool]()
        for seed in range(asked.seeds):
            at = "reward" if right is None else f"{right:g}-{tolerance:g}"
            folder = asked.folder / f"{at}-{seed}"
            with _simulated(seed, right) as outcomes:
                _explored(asked, model, seed, folder)
                with Lab.open(folder, progress=Lines()) as lab:
                    report = _round(lab, asked, seed, right, tolerance, outcomes)
                    first = DEV_FIRST + seed * asked.games
                    seeds = range(first, first + asked.games)
                    mine = [drawn(lab, TOY, adapter, seeds) for adapter in (None, report.adapter)]
            before |= mine[0]
            after |= mine[1]
            n, alike = (report.judged.get(what, 0) for what in (DIFFER, ALIKE))
            print(
                f"| {name} | {seed} | {sum(report.selected.values())} | {f'{alike} of {n}' if n else ''} "
                f"| {rate(mine[0])} | {rate(mine[1])} | {told(paired(mine[1], mine[0]))} |",
                flush=True,
            )
        print(f"| {name} | all | | | {rate(before)} | {rate(after)} | {told(paired(after, before))} |", flush=True)


def _explored(asked: argparse.Namespace, model: str, seed: int, folder: Path) -> None:
    """Make the lab of an arm from the one in which the games of this seed were tried, which all arms learn from."""
    if folder.exists():
        return
    shared = asked.folder / f"explored-{seed}"
    config = LabConfig(model=model, threads=asked.threads, embedder="hashing", critic="openai:simulated")
    with Lab.open(shared, create=True, config=config, progress=Lines()) as lab:
        if not lab.rounds() or not lab.rounds()[0].ended:
            found = run_round(
                lab, _config(TOY, asked.explored, seed, _tries("model", asked.group), None), until="select"
            )
            abandon(lab, found.id, "its games are what the arms learn from")
    scratch = folder.with_suffix(".tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(shared, scratch)
    scratch.rename(folder)


def _tries(guide: str, count: int) -> dict[str, Any]:
    """Settings of a round that tries each game so many times, won or not, by chance or as its model plays."""
    settings = {"iterations": count, "wins": count, "advice": False}
    return {"collect": ["best_of_n"], "search": {"guide": guide, "budget": {"steps": 100_000}, "settings": settings}}


def _config(
    env: str, seeds: int, seed: int, explore: Mapping[str, Any], judge: Mapping[str, Any] | None, **training: Any
) -> RoundConfig:
    source = {"sources": ["reward"]} if judge is None else {"sources": ["judge"], "judge": judge}
    return RoundConfig.model_validate({
        "envs": [env], "seeds": seeds, "seed": seed, "gate_seeds": 20, "retire": "off", "forgetting": {"seeds": 0},
        "preferences": {"per_task": 1, "per_env": None, **source}, "training": {"objective": "dpo", **training},
        **explore,
    })  # fmt: skip


def _round(
    lab: Lab,
    asked: argparse.Namespace,
    seed: int,
    right: float | None,
    tolerance: float,
    outcomes: dict[str, tuple[str, bool]],
) -> RoundReport:
    training = {"learning_rate": asked.learning_rate, "epochs": asked.epochs}
    judge = {"by": "critic", "samples": 1, "candidates": asked.group, "tolerance": tolerance}
    config = _config(TOY, 1, seed, {"collect": "none"}, None if right is None else judge, **training)
    for row in lab.database.episodes.find(EpisodeFilter(split="train")):
        (episode,) = lab.database.episodes.load([row.id])
        outcomes[judging_prompt(episode)] = episode.task_id, episode.won
    return ended_round(lab, 1, config)


@contextmanager
def _simulated(seed: int, right: float | None) -> Iterator[dict[str, tuple[str, bool]]]:
    """A server that speaks OpenAI's protocol and scores by the outcome that it is told of each prompt (the dictionary,
    with the task), in a share `right` of the tasks; in the others the other way round."""
    outcomes = dict[str, tuple[str, bool]]()

    class Simulated(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            task, won = outcomes[body["messages"][-1]["content"]]
            is_right = random.Random(f"{seed}|{task}").random() < (right or 0.0)
            said = {"role": "assistant", "content": f"Simulated.\nScore: {BEST if won == is_right else 0}"}
            answer = json.dumps({
                "id": "simulated", "object": "chat.completion", "created": 0, "model": "simulated",
                "choices": [{"index": 0, "finish_reason": "stop", "message": said}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }).encode()  # fmt: skip
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Simulated)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1", "OPENAI_API_KEY": "none"}
    try:
        yield outcomes
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main()
