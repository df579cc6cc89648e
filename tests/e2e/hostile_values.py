"""Values that nobody means: made at random, in the shapes that data has, by one source of chance."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

TEXTS = (
    "", " ", "\n", "\x00", "a\x00b", "\ud800", "x\udfffy", "\u2028", "\u202e\u2066", "\x1b[31m", "é" * 300, "𝔘",
    "x" * 70_000, "../../etc/passwd", "/etc/passwd", "..", ".", "~", "~root/x", "C:\\x", "file:///etc/passwd",
    "http://127.0.0.1:1/", "'; DROP TABLE episodes;--", "%s%n%x", "{0.__class__}", "{{7*7}}", "${x}", "`id`", "$(id)",
    "<script>alert(1)</script>", "toy/doors", "toy/doors?rooms=9", "toy/doors?rooms=x", "toy/doors:train:0",
    "toy/doors:train:", "tw/../x.json", "openenv/", "gym/x", "r-1", "ep-1", "op-1", "ops-1", "adapter-1", "round-1",
    "NaN", "Infinity", "-0", "1e999", "0x10", "１２", "٣", "9" * 5000, "null", "true", "[" * 3000, "{" * 3000,
    '{"a":' * 2000, "a=" * 500, "?" * 200, "&=&", "a?b=c&b=d", "12h", "-1d", "99999999999999999999d", "9999-99-99",
    "0000-00-00T00:00:00", "2026-01-01T00:00:00+99:99", "start", "now",
)  # fmt: skip
NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 3, 255, 256, 2**31, -(2**31), 2**53, 2**63, -(2**63) - 1, 2**64, 10**30, 10**400, 0.0, -0.0, 0.1,
    1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), True, False,
)  # fmt: skip


class Chance(random.Random):
    """The source of all that is hostile."""

    def text(self) -> str:
        kind = self.random()
        if kind < 0.6:
            return self.choice(TEXTS)
        if kind < 0.8:
            return self.choice(TEXTS)[:50] + self.choice(TEXTS)[:50]
        if kind < 0.9:
            return "".join(
                chr(self.choice((self.randrange(32, 127), self.randrange(0x11_0000))))
                for _ in range(self.randint(1, 20))
            )
        return self.choice(("word", "open red door", "take coin", "look", "read note"))

    def number(self) -> Any:
        return self.choice(NUMBERS) if self.random() < 0.7 else self.randint(-1000, 1000)

    def value(self, depth: int = 3) -> Any:
        """Anything that JSON can hold, and what Python writes beside that (NaN, half characters)."""
        kind = self.random()
        if kind < 0.4 or depth == 0:
            return self.text()
        if kind < 0.65:
            return self.number()
        if kind < 0.72:
            return None
        if kind < 0.86:
            return [self.value(depth - 1) for _ in range(self.randint(0, 4))]
        if kind < 0.98:
            return {self.text()[:40]: self.value(depth - 1) for _ in range(self.randint(0, 4))}
        return self.deep()

    def deep(self) -> Any:
        """Lists and objects that lie in each other more deeply than anything should read."""
        found: Any = self.text()[:10]
        for level in range(self.choice((70, 300, 900))):
            found = [found] if level % 2 else {"a": found}
        return found

    def like(self, meant: Any, depth: int = 6) -> Any:
        """Data as it is meant to be, of which something at random is not."""
        if self.random() < 0.12:
            return self.value()
        if isinstance(meant, dict):
            found = {key: self.like(value, depth - 1) for key, value in meant.items() if self.random() > 0.05}
            return found | ({self.text()[:40]: self.value()} if self.random() < 0.1 else {})
        if isinstance(meant, list):
            return [self.like(value, depth - 1) for value in meant for _ in range(self.choice((1, 1, 1, 0, 2)))]
        return meant

    def json(self, value: Any) -> bytes:
        """A value as JSON, as it came or damaged."""
        try:
            written = json.dumps(value, ensure_ascii=self.random() < 0.5).encode("utf-8", "surrogatepass")
        except (ValueError, RecursionError):
            written = b"[" * 2000
        return self.damaged(written) if self.random() < 0.25 else written

    def damaged(self, data: bytes) -> bytes:
        """Bytes of which some are missing, others or more."""
        if not data:
            return self.randbytes(self.randint(0, 40))
        at, kind = self.randrange(len(data)), self.random()
        if kind < 0.3:
            return data[:at]
        if kind < 0.6:
            return data[:at] + self.randbytes(self.randint(1, 8)) + data[at + self.randint(0, 8) :]
        if kind < 0.75:
            return data[:at] + data[self.randrange(len(data)) :]
        if kind < 0.9:
            return data[:at] + self.choice(TEXTS).encode("utf-8", "surrogatepass")[:5000] + data[at:]
        return self.choice((b"", b"\x00" * 100, b"\xff\xfe" + data, b"\xef\xbb\xbf" + data, data * 2, b"[" * 100_000))

    def some(self, names: Sequence[str]) -> str:
        """One of some names, or a text that is none."""
        return self.choice(names) if names and self.random() < 0.8 else self.text()
