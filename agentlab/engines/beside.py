"""Requests that are under way beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from agentlab.tracing import carried

Request = TypeVar("Request")
Answer = TypeVar("Answer")


def beside(answer: Callable[[Request], Answer], requests: Sequence[Request], most: int) -> list[Answer]:
    """The answers to all requests in order, at most `most` of them under way at once.

    Raises what one that fails did; what has not begun by then is not asked.
    """
    if len(requests) < 2:
        return [answer(request) for request in requests]
    failed: list[BaseException] = []

    def asked(request: Request) -> Answer:
        if failed:
            raise failed[0]
        try:
            return answer(request)
        except BaseException as error:
            failed.append(error)
            raise

    with ThreadPoolExecutor(min(len(requests), most), thread_name_prefix="beside") as workers:
        return list(workers.map(carried(asked), requests))
