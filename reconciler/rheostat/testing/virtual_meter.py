"""Processor time that sessions use only in a simulation."""

from collections.abc import Callable
from typing import TypeVar

from .faulty_backend import FaultyBackend

_Result = TypeVar("_Result")


class VirtualMeter:
    """Owns what the sessions of a `FaultyBackend` have used, at a `cost` of so many cores."""

    measures = True
    grown: int | None = None
    """Bytes that the session has brought into the process."""

    def __init__(self, clock: Callable[[], float], backend: Callable[[], FaultyBackend]) -> None:
        self._clock = clock
        self._backend = backend
        self._at = clock()
        self._used = 0.0
        self._cost = 0.0

    @property
    def cost(self) -> float:
        return self._cost

    @cost.setter
    def cost(self, cores: float) -> None:
        self.used()
        self._cost = cores

    def used(self) -> float:
        """Seconds in all."""
        before, self._at = self._at, self._clock()
        if self._backend().session is not None:
            self._used += self._cost * (self._at - before)
        return self._used

    def started(self, start: Callable[[], _Result]) -> Callable[[], _Result]:
        return self._reckoned(start)

    def stopped(self, stop: Callable[[], _Result]) -> Callable[[], _Result]:
        return self._reckoned(stop)

    def _reckoned(self, function: Callable[[], _Result]) -> Callable[[], _Result]:
        def call() -> _Result:
            self.used()
            return function()

        return call
