"""A card: training tokens a second and their share of its peak, many episodes at once, and numbers against float32.

    python benchmarks/gpu.py [--model FOLDER] [--budget SECONDS] [--out FOLDER] [--dry-run]

One script for a machine with PyTorch, transformers, peft, accelerate and pydantic, without network and without the rest
of what agentlab needs. It takes under eight minutes; each part is kept as it ends, and the same command does what is
missing, also when `--budget` ran out. The table is written beside, with the name of the card.

Training is that of a job (LoRA of rank 16 on all linear layers, `trainers.training`), on episodes of 100 to 1,000
tokens, packed and padded; with the shapes of Qwen2.5 at 1.5B and 7B and random weights, which cost what real ones do.
Play is `TransformersEngine.score` with 1, 16, 64 and 256 conversations, each step with 8 to 30 commands. SmolLM2 is
itself where its folder is given or cached. The share of the peak counts useful work alone: nothing that is done twice,
padded or masked. `--dry-run` does all of it on the CPU, tiny, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine import describe

if TYPE_CHECKING:
    from gpu_bench import Bench, Row

NEEDED = ("torch", "transformers", "peft", "accelerate", "pydantic", "numpy", "safetensors", "tokenizers")
RESULTS = Path(__file__).parent / "results"
PLAYERS = ("SmolLM2-135M", "Qwen2.5-1.5B")
LEARNERS = (*PLAYERS, "Qwen2.5-7B")


def parts(bench: Bench) -> dict[str, tuple[float, Callable[[], list[Row]]]]:
    """The parts by name, in their order: seconds that each may take, and what measures it."""
    import gpu_bench
    import gpu_playing
    import gpu_training

    def play(name: str, at_once: int) -> Callable[[], list[Row]]:
        return lambda: gpu_playing.playing(bench, name, at_once)

    def train(name: str) -> Callable[[], list[Row]]:
        return lambda: gpu_training.training(bench, name)

    found: dict[str, tuple[float, Callable[[], list[Row]]]] = {"card": (10, lambda: gpu_bench.card(bench))}
    first, second = (
        {f"play {name} {at_once}": (25.0, play(name, at_once)) for at_once in bench.size.at_once} for name in PLAYERS
    )
    learn = {f"train {name}": (70.0 if "7B" in name else 45.0, train(name)) for name in LEARNERS}
    return found | first | learn | {"parity": (45, lambda: gpu_playing.parity(bench))} | second


def missing() -> list[str]:
    """The packages that are needed and not here."""
    return [name for name in NEEDED if find_spec(name) is None]


def smollm2(given: Path | None) -> Path | None:
    """The folder of SmolLM2, if it is given or in the cache."""
    if given is not None:
        return given.resolve()
    if not os.environ.get("AGENTLAB_CACHE") and find_spec("platformdirs") is None:
        return None
    from agentlab.engines import hub

    return hub.here("SmolLM2-135M-Instruct")


def measured(bench: Bench, state: dict[str, Any], file: Path, budget: float, began: float) -> list[str]:
    """Do what is missing in `state`, each part kept as it ends; the names of those for which there was no time."""
    left = []
    for name, (seconds, measure) in parts(bench).items():
        if "rows" in state["parts"].get(name, {}):
            continue
        if time.monotonic() - began + (0 if bench.size.dry else seconds) > budget:
            left.append(name)
            continue
        start = time.monotonic()
        print(f"{name} …", flush=True)
        try:
            done: dict[str, Any] = {"rows": measure()}
        except Exception as error:  # one part must not cost the others
            traceback.print_exc()
            done = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        if "failed" in done:
            bench.clear()  # here the error is gone, and with it what its traceback held
        state["parts"][name] = done | {"seconds": round(time.monotonic() - start, 1)}
        _keep(file, json.dumps(state, indent=1))
    return left


def _keep(file: Path, text: str) -> None:
    beside = file.with_name(f"{file.name}.partial")
    beside.write_text(text + "\n", encoding="utf-8")
    os.replace(beside, file)


def table(state: dict[str, Any]) -> str:
    """All that was measured, as Markdown."""
    done: dict[str, dict[str, Any]] = state["parts"]

    def rows(kind: str) -> list[dict[str, Any]]:
        return [row for name, part in done.items() if name.startswith(kind) for row in part.get("rows", ())]

    said = [f"# {state['card']}", state["machine"] + "."]
    for row in rows("card"):
        share = "" if row["share"] is None else f", {row['share']:.0%} of the peak of the data sheet"
        said.append(f"A product of two bfloat16 matrices, {row['side']:,}²: {row['flops'] / 1e12:,.0f} TFLOP/s{share}.")
    if any(row["share"] is None for row in rows("card")):
        said.append("The card's bfloat16 peak is not known here, so shares of it are left out.")
    if trained := rows("train"):
        said += ["## Training", TRAINING, _grid(TRAINED, [_trained(row) for row in trained])]
    if played := rows("play"):
        said += ["## Many episodes at once", PLAYING, _grid(PLAYED, [_played(row, played) for row in played])]
    if compared := rows("parity"):
        said += ["## Numbers", PARITY, _grid(COMPARED, [_compared(row) for row in compared])]
    if failed := {name: part["failed"] for name, part in done.items() if "failed" in part}:
        said += ["## Failed", "\n".join(f"- {name}: {why}" for name, why in failed.items())]
    return "\n\n".join(said)


TRAINING = (
    "LoRA of rank 16 on all linear layers, as jobs train it; episodes of 100 to 1,000 tokens. All tokens of the "
    "episodes count, padding does not; the share of the peak is of useful work. The loss is that of the first step, "
    "which both forms take from the same weights on the same episodes."
)
TRAINED = (
    "model", "form", "tokens/s", "TFLOP/s", "of the peak", "memory, GiB", "examples at once", "padding", "first loss",
)  # fmt: skip
PLAYING = (
    "Steps with 8 to 30 commands each, all of them scored. Δ is the largest distance of a score from that of one "
    "episode at a time, in nats a command; `same` how often both prefer the same command."
)
PLAYED = ("model", "numbers", "at once", "episodes/s", "× one", "tokens/s", "memory, GiB", "Δ", "same")
PARITY = "Against one episode at a time in float32, in nats a command."
COMPARED = ("model", "numbers", "at once", "commands", "largest Δ", "mean Δ", "same command preferred")


def _trained(row: dict[str, Any]) -> list[str]:
    again = ", activations again" if row["recomputed"] else ""
    padding = f"{row['padding']:.0%}" if row["form"] == "padded" else "none"
    return [
        row["model"],
        f"{row['form']}, {row['dtype']}, {row['attention']}",
        f"{row['tokens_per_second']:,.0f}",
        f"{row['flops'] / 1e12:,.1f}",
        "–" if row["share"] is None else f"{row['share']:.1%}",
        _number(row["peak_gib"], ".1f"),
        f"{row['at_once']}{again}",
        padding,
        f"{row['loss']:.4f}",
    ]


def _played(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[str]:
    from gpu_playing import apart

    one = next((it for it in rows if it["model"] == row["model"] and it["at_once"] == 1), None)
    quicker = f"{row['episodes_per_second'] / one['episodes_per_second']:.1f}" if one else "–"
    distance = apart(row["scores"], one["scores"]) if one else None
    return [
        row["model"],
        row["dtype"],
        str(row["at_once"]),
        f"{row['episodes_per_second']:,.2f}",
        quicker,
        f"{row['tokens_per_second']:,.0f}",
        _number(row["peak_gib"], ".1f"),
        f"{distance['largest']:.1e}" if distance else "–",
        f"{distance['same']:.0%}" if distance else "–",
    ]


def _compared(row: dict[str, Any]) -> list[str]:
    counts = [row["model"], row["dtype"], str(row["at_once"]), f"{row['commands']:,}"]
    return [*counts, f"{row['largest']:.1e}", f"{row['mean']:.1e}", f"{row['same']:.1%}"]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _grid(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, ["---"] * len(titles), *rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing and write the table; 1 if a part is missing or failed, 2 if packages are missing."""
    began = time.monotonic()
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--model", type=Path, help="the folder of SmolLM2-135M-Instruct; by default that in the cache")
    options.add_argument("--budget", type=float, default=470, help="seconds after which no part is begun")
    options.add_argument("--out", type=Path, default=RESULTS, help="where the table and what is kept of it go")
    options.add_argument("--dry-run", action="store_true", help="all of it on the CPU, tiny")
    given = options.parse_args(arguments)
    if lacking := missing():
        print(
            f"error: {', '.join(lacking)} not installed; they are all that this needs of other packages; pip install "
            f"{' '.join(lacking)}, or take their wheels along where there is no network",
            file=sys.stderr,
        )
        return 2
    from gpu_bench import DRY, Bench, Size

    bench = Bench(DRY if given.dry_run else Size(), None if given.dry_run else smollm2(given.model))
    if bench.device == "cpu" and not given.dry_run:
        print("error: PyTorch sees no card here; --dry-run shows on the CPU that it runs", file=sys.stderr)
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    card = "dry run" if given.dry_run else bench.card
    stem = "gpu-" + re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")
    file, known = given.out / f"{stem}.json", describe(1).partition(";")[2].strip()
    state: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if state.get("versions") != known:  # what other versions did is not put into one table with what these do
        state = {"card": card, "versions": known, "machine": describe(1), "parts": {}}
    with bench.closing:
        left = measured(bench, state, file, given.budget, began)
        bench.clear()
    _keep(file.with_suffix(".md"), table(state))
    print(f"\n{table(state)}\n\nkept in {file.with_suffix('.md')}")
    if left:
        print(f"No time was left for {', '.join(left)}; the same command does these.")
    return 1 if left or any("failed" in part for part in state["parts"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
