"""How soon the screens of a large lab answer, what their server takes, and what play loses while somebody looks on.

    python benchmarks/screens.py [--size N] [--requests N] [--slices N] [--lab FOLDER] [--out FILE]

A lab of `--size` episodes and as many reflections is made (`screens_lab.py`) and served by `agentlab view`, in a
process of its own. Its pages are found as a reader finds them: by their links and by the choices of their forms, one
address of each kind (a page with the same filters set is one kind), and the last part of each list; not those of which
their link says that they take seconds (`?share=1`, which resamples a whole table). Three measurements:

- the time to the first byte of every page, median and worst of 20, and the processor time of the server for one; at
  most 300 ms, by whichever is less of the median and the processor time: on a quiet machine they are the same, on a
  busy one the median is that of the queue for the processor;
- the server's memory (resident) after each tenth of `--requests` requests to each page without a query in turn; it is
  flat if the last tenth ends within 5 %, or 8 MB, of where the third one ended, when all caches have been filled;
- games of the toy in the same lab, in slices with and without two requests a second to its pages, in turns: the median
  of the ratios of two slices beside each other, by the clock and by the processor time of play; the lesser of them may
  be 3 % at most, since on a busy machine the clock is that of the queue.

The exit code is 1 if one of them breaks its bound.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import parse_qsl, urlencode, urlsplit

from machine import describe
from screens_lab import make

from agentlab import Lab
from agentlab.engines.scripted import ScriptedEngine

FIRST_BYTE, GROWTH, GROWTH_MB, LOSS = 0.300, 0.05, 8.0, 0.03
TIMES = 20
A_SECOND = 2
KINDS = 150
SORTS = ("sort", "order", "by", "down")
GAMES = 20
VIEW = "from agentlab.cli import main; main()"
LOOK = """
import http.client, sys, time
port, pause, addresses = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
turn = 0
while True:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", addresses[turn % len(addresses)])
        connection.getresponse().read()
        connection.close()
    except OSError:
        pass
    turn += 1
    time.sleep(pause)
"""


class Found(HTMLParser):
    """The addresses that a page leads to: by its links, and by its forms with one field chosen."""

    def __init__(self, text: str, at: str) -> None:
        super().__init__()
        self.at, self.addresses = at, list[str]()
        self._form: str | None = None
        self._fields: dict[str, str] = {}
        self._options: list[tuple[str, str]] = []
        self._select = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "a":
            self._add(given.get("href", ""))
        elif tag == "form" and given.get("method", "get").lower() == "get":
            self._form, self._fields, self._options = given.get("action") or self.at.partition("?")[0], {}, []
        elif tag == "input" and self._form is not None and given.get("name"):
            if given.get("type") == "hidden":
                self._fields[given["name"]] = given.get("value", "")
            elif given.get("type", "text") in ("text", "search"):
                self._options.append((given["name"], "coin"))
        elif tag == "select":
            self._select = given.get("name", "")
        elif tag == "option" and self._select and given.get("value"):
            self._options.append((self._select, given["value"]))

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""
        if tag == "form" and self._form is not None:
            for name, value in self._options:
                self._add(f"{self._form}?{urlencode({**self._fields, name: value})}")
            self._form = None

    def _add(self, address: str) -> None:
        if address.startswith("?"):
            address = self.at.partition("?")[0] + address
        if address.startswith("/") and not address.startswith("/static") and "share=" not in address:
            self.addresses.append(address.partition("#")[0])


def kind(address: str) -> str:
    """What an address has in common with others: ids are left out, and what filters are set to; a sort is kept."""
    parts = urlsplit(address)
    path = re.sub(r"[\w-]*\d[\w-]*", "…", parts.path)
    query = sorted(f"{name}={value}" if name in SORTS else name for name, value in parse_qsl(parts.query))
    return f"{path}?{'&'.join(query)}" if query else path


@dataclass
class Server:
    """The screens, in a process of their own."""

    process: subprocess.Popen[str]
    port: int

    def get(self, address: str) -> tuple[int, float, bytes]:
        """Status, seconds to the first byte, and what came."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        began = time.perf_counter()
        connection.request("GET", address)
        answer = connection.getresponse()
        first = time.perf_counter() - began
        body = answer.read()
        connection.close()
        return answer.status, first, body

    @property
    def processor(self) -> float:
        """Seconds of the processor so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory(self) -> float:
        """Resident, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    """`agentlab view` at work on a lab."""
    command = [sys.executable, "-u", "-c", VIEW, "view", "--lab", str(folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = re.search(r"127\.0\.0\.1:(\d+)", line)
        if port is None:
            raise SystemExit(f"The server did not start: {line}")
        yield Server(process, int(port[1]))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def addresses(server: Server) -> list[str]:
    """One address of each kind, and the last part of each list."""
    waiting, seen = ["/"], {kind("/"): "/"}
    while waiting and len(seen) < KINDS:
        at = waiting.pop(0)
        status, _, body = server.get(at)
        if status != 200 or at.partition("?")[0].endswith((".json", ".csv", ".md")):
            continue
        text = body.decode()
        # Of a list its last part, which a database counts up to; of a kind that was seen nothing more.
        last = re.search(r"of ([\d,]+)</span>\s*<a rel=\"next\" href=\"([^\"]+)\"", text)
        deep = []
        if last:
            size = int(last[1].replace(",", ""))
            deep = [re.sub(r"offset=\d+", f"offset={size - 1}", last[2].replace("&amp;", "&"))]
        for address in [*deep, *Found(text, at).addresses]:
            if kind(address) not in seen:
                seen[kind(address)] = address
                # Each filter and sort is looked at, their combinations are not.
                if not urlsplit(address).query:
                    waiting.append(address)
    return list(seen.values())


@dataclass
class Timing:
    """What an address took: seconds to the first byte (median and worst), processor time of one; bytes and status."""

    middle: float
    worst: float
    work: float
    length: int
    status: int

    @property
    def own(self) -> float:
        """Without what the machine did besides."""
        return min(self.middle, self.work)


def timed(server: Server, pages: Sequence[str]) -> dict[str, Timing]:
    """What each address took."""
    found = {}
    for address in pages:
        if server.get(address)[0] == 400:  # a word in a field for times
            continue
        before = server.processor
        taken = [server.get(address) for _ in range(TIMES)]
        work = (server.processor - before) / TIMES
        seconds = [first for _, first, _ in taken]
        found[address] = Timing(median(seconds), max(seconds), work, len(taken[0][2]), taken[0][0])
    return found


def grown(server: Server, pages: Sequence[str], requests: int) -> list[float]:
    """The server's memory at the beginning and after each tenth of the requests."""
    memory = [server.memory]
    for tenth in range(10):
        for number in range(requests // 10):
            server.get(pages[(tenth * requests // 10 + number) % len(pages)])
        memory.append(server.memory)
    return memory


def ratios(folder: Path, server: Server, pages: Sequence[str], slices: int) -> list[tuple[float, float]]:
    """By how much longer games took while somebody looked on, for each pair of slices: by the clock, and in processor
    time."""
    command = [sys.executable, "-c", LOOK, str(server.port), str(1 / A_SECOND), *pages]
    looking = subprocess.Popen(command)
    found: list[tuple[float, float]] = []
    try:
        os.kill(looking.pid, signal.SIGSTOP)
        with Lab.open(folder, engine=ScriptedEngine(lambda *_: 0.0), progress=False) as lab:

            def play(number: int, looked_at: bool) -> tuple[float, float]:
                os.kill(looking.pid, signal.SIGCONT if looked_at else signal.SIGSTOP)
                began, worked = time.perf_counter(), time.process_time()
                # A name that no lab knows: what was played under one is not played again.
                lab.run("toy/doors", seeds=range(GAMES), trials=3, arm="random", name=f"{began:.0f}-{number}")
                return time.perf_counter() - began, time.process_time() - worked

            play(0, False)
            for number in range(slices):
                # Whichever comes first has it a little easier or harder, so they take turns.
                first, second = 2 * number + 1, 2 * number + 2
                if number % 2:
                    without, beside = play(first, False), play(second, True)
                else:
                    beside, without = play(first, True), play(second, False)
                found.append((beside[0] / without[0], beside[1] / without[1]))
    finally:
        os.kill(looking.pid, signal.SIGCONT)
        looking.kill()
        looking.wait()
    return found


def spread(ratios: Sequence[float]) -> str:
    """The median of some ratios and their quartiles, as differences in percent."""
    low, middle, high = (100 * (ratio - 1) for ratio in quantiles(ratios, n=4))
    return f"{middle:+.1f} % [{low:+.1f}, {high:+.1f}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say whether every bound was kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=100_000, help="episodes, and reflections")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--slices", type=int, default=40, help="pairs of slices of play")
    parser.add_argument("--lab", type=Path, help="made there if there is none, and kept")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    lines: list[str] = []

    def tell(*said: str) -> None:
        lines.extend(said)
        print(*said, sep="\n", flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        folder = given.lab or Path(scratch) / "lab"
        began = time.perf_counter()
        if not (folder / "lab.db").exists():
            make(folder, given.size)
        size = (folder / "lab.db").stat().st_size / 1e6
        tell(
            "# Screens",
            "",
            f"{given.size:,} episodes, {given.size:,} reflections, {size:,.0f} MB. {describe(1)}.",
            "",
        )
        print(f"(made in {time.perf_counter() - began:.0f} s)")
        broken: list[str] = []
        with served(folder) as server:
            pages = addresses(server)
            found = timed(server, pages)
            tell("| page | median ms | worst ms | processor ms | kB |", "|---|--:|--:|--:|--:|")
            for address, took in sorted(found.items()):
                mark = "" if took.own <= FIRST_BYTE and took.status == 200 else " **broken**"
                times = " | ".join(f"{1e3 * time:.0f}" for time in (took.middle, took.worst, took.work))
                tell(f"| `{address}`{mark} | {times} | {took.length / 1e3:.0f} |")
                if mark:
                    broken.append(f"{address} took {1e3 * took.own:.0f} ms, status {took.status}")
            slowest = max(took.own for took in found.values())
            tell("", f"{len(found)} addresses; the slowest takes {1e3 * slowest:.0f} ms.", "")
            plain = [address for address in pages if not urlsplit(address).query]
            memory = grown(server, plain, given.requests)
            tell(
                f"Memory of the server over {given.requests:,} requests, MB: "
                + ", ".join(f"{at:.0f}" for at in memory)
                + ".",
                "",
            )
            if memory[-1] - memory[3] > max(GROWTH * memory[3], GROWTH_MB):
                broken.append(f"memory grew from {memory[3]:.0f} to {memory[-1]:.0f} MB")
            loss = ratios(folder, server, plain, given.slices)
            clock, work = ([pair[one] for pair in loss] for one in (0, 1))
            tell(
                f"Play beside {A_SECOND} requests a second takes {spread(clock)} longer by the clock, "
                f"{spread(work)} of the processor (medians and quartiles of {len(loss)} pairs of slices)."
            )
            if min(median(clock), median(work)) - 1 > LOSS:
                broken.append(f"play lost {spread(clock)}")
    for problem in broken:
        print(f"broken: {problem}")
    if given.out:
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
