"""The calculator: `calculate 34 * 5`, for the numbers of a problem that was read."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations

from environments.tools.base import Seen
from environments.tools.quantities import number, of_commands, shown

MOST_NUMBERS = 3
"""Numbers of a text that is taken for a problem, at most; a room full of things has more."""

PROBLEMS = 2
"""Texts that are looked at for numbers, the newest ones that have some."""

LARGEST = 10**12
"""The largest number that is calculated with."""

_NUMBER = re.compile(r"(?<![\w.])(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w]|\.\d)")
_OPERATIONS: dict[type[ast.AST], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class Calculator:
    """Answers what sums, differences, products and quotients come to, exactly."""

    name = "calculator"
    verbs = ("calculate",)

    def calls(self, seen: Seen) -> Sequence[str]:
        """Every operation on two numbers of the newest texts that have two or three of them, each pair once."""
        found: list[str] = []
        problems = 0
        for text in seen.texts:
            numbers: Sequence[str] = _NUMBER.findall(text)
            if len(numbers) > MOST_NUMBERS:  # the same ones may be named several times
                numbers = list(dict.fromkeys(numbers))
            if not 2 <= len(numbers) <= MOST_NUMBERS:
                continue
            for a, b in combinations(numbers, 2):
                found += self._pair(a, b)
            problems += 1
            if problems == PROBLEMS:
                break
        return list(dict.fromkeys(found))

    def _pair(self, a: str, b: str) -> list[str]:
        """The calls on two numbers; differences and quotients only from the greater one."""
        more, less = (a, b) if number(a) >= number(b) else (b, a)
        quotient = [f"calculate {more} / {less}"] if number(less) and number(more) % number(less) == 0 else []
        return [f"calculate {a} + {b}", f"calculate {a} * {b}", f"calculate {more} - {less}", *quotient]

    def answer(self, call: str, seen: Seen) -> str:
        """`34 * 5 = 170: 170 tangerines.`, with what the commands have so many of, if they have.

        Raises ValueError for what is no expression of numbers.
        """
        expression = call.removeprefix("calculate").strip()
        if not expression or len(expression) > 100:
            raise ValueError(f"'{expression[:40]}' is no calculation; write one such as 34 * 5")
        readable = re.sub(r"(?<=\d),(?=\d{3}\b)", "", expression).replace("×", "*").replace("÷", "/")
        try:
            value = _value(ast.parse(readable, mode="eval").body)
        except (SyntaxError, RecursionError, MemoryError):
            raise ValueError(f"'{expression}' is no calculation; write one such as 34 * 5") from None
        except ZeroDivisionError:
            raise ValueError("nothing can be divided by 0") from None
        meant = [one.text for one in of_commands(seen.commands) if not one.measure and one.amount == value]
        return f"{expression} = {shown(value)}{': ' if meant else ''}{', '.join(meant)}."


def _value(node: ast.AST) -> Fraction:
    """What an expression comes to: numbers, + − * / and brackets. Raises ValueError for anything else."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        value = Fraction(str(node.value))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = -_value(node.operand)
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        value = _OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    else:
        raise ValueError("only numbers, + - * / and brackets can be calculated with")
    if abs(value) > LARGEST or value.denominator > LARGEST:
        raise ValueError(f"numbers end at {LARGEST:,}")
    return value
