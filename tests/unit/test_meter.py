"""Of which threads the processor time counts for a session."""

import threading
import time

import pytest

from rheostat._host.meter import Meter
from support.children import PATIENCE

ENOUGH = 0.1
"""Seconds of processor time."""


class Spinning:
    """A thread that has used some processor time, and waits then."""

    def __init__(self, name: str) -> None:
        self.has_used = threading.Event()
        self._may_end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while time.thread_time() < ENOUGH:
            sum(range(1000))
        self.has_used.set()
        self._may_end.wait(PATIENCE)

    def end(self) -> None:
        self._may_end.set()
        self._thread.join()


@pytest.mark.parametrize(
    ("name", "counts"),
    [("rheostat-sampler", True), ("worker", False), ("rheostat-call-start", False), ("rheostat-look", False)],
)
def test_a_thread_that_a_backend_has_named_counts(name: str, counts: bool) -> None:
    """One that the application has started meanwhile does not, nor does one of Rheostat's own."""
    meter, spinning = Meter(), Spinning(name)
    meter.started(spinning.start)()
    try:
        assert spinning.has_used.wait(PATIENCE)
        assert counts == (meter.used() >= ENOUGH)
    finally:
        spinning.end()


def test_a_thread_from_before_the_start_does_not_count() -> None:
    """Whatever its name is: a flag source's, say."""
    meter, spinning = Meter(), Spinning("rheostat-growthbook")
    spinning.start()
    meter.started(lambda: None)()
    try:
        assert spinning.has_used.wait(PATIENCE)
        assert meter.used() < ENOUGH
    finally:
        spinning.end()
