"""When the agent is called, and for how long: its own time is nobody's overhead."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import pyroscope


class Call(NamedTuple):
    """One call of ``configure`` or ``shutdown``, in seconds of `time.perf_counter`."""

    began: float
    ended: float


@contextmanager
def watched() -> Iterator[list[Call]]:
    """Every call of the agent, as it ends."""
    calls: list[Call] = []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = function(*args, **kwargs)
            calls.append(Call(began, time.perf_counter()))
            return result

        return call

    with _replaced(timed(pyroscope.configure), timed(pyroscope.shutdown)):
        yield calls


@contextmanager
def replaced_by_nothing() -> Iterator[None]:
    """An agent that does nothing, successfully."""

    def succeed(*args: Any, **kwargs: Any) -> bool:
        return True

    with _replaced(succeed, succeed):
        yield


@contextmanager
def _replaced(configure: Callable[..., Any], shutdown: Callable[..., Any]) -> Iterator[None]:
    with mock.patch.object(pyroscope, "configure", configure), mock.patch.object(pyroscope, "shutdown", shutdown):
        yield
