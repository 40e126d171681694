"""Files that are written beside everything else."""

import threading
import time

import pytest

from rheostat._host import scribe as module
from rheostat._host.scribe import Scribe

PATIENCE = 20.0


@pytest.mark.parametrize("error", [OSError(28, "full"), ValueError("defect"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_job_raises_the_next_is_done(error: BaseException, capfd: pytest.CaptureFixture[str]) -> None:
    """It is remembered until one succeeds, and nothing reaches the host."""
    scribe, seen, done = Scribe(), list[BaseException | None](), threading.Event()

    def fail() -> None:
        raise error

    def look() -> None:
        seen.append(scribe.trouble)
        done.set()

    scribe.do(fail)
    scribe.do(look)
    assert done.wait(PATIENCE)
    scribe.flush(PATIENCE)
    assert ([error], None, "") == (seen, scribe.trouble, capfd.readouterr().err)


def test_jobs_are_done_in_order() -> None:
    """By one thread, however many there are."""
    scribe, order = Scribe(), list[int]()
    for number in range(50):
        scribe.do(lambda number=number: order.append(number))
    scribe.flush(PATIENCE)
    assert list(range(50)) == order


def test_a_job_that_hangs_holds_up_neither_who_asks_nor_who_waits() -> None:
    """And what waits behind it is bounded."""
    scribe, begun, goes_on, done = Scribe(), threading.Event(), threading.Event(), list[int]()

    def hang() -> None:
        begun.set()
        goes_on.wait(PATIENCE)

    scribe.do(hang)
    assert begun.wait(PATIENCE)
    for _ in range(1000):
        scribe.do(lambda: done.append(1))
    scribe.flush(0.01)
    assert ([], False) == (done, scribe.is_idle)
    goes_on.set()
    began = time.monotonic()
    scribe.flush(PATIENCE)
    # Who waits is told when they are done, however many there were.
    assert 100 == len(done)
    assert time.monotonic() - began < PATIENCE / 2


def test_where_no_thread_is_to_be_had_nothing_is_written_by_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only by who finishes; a flush waits for nothing then."""

    class NoThreads:
        def start(self, *_: object) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module, "current", NoThreads)
    scribe, done = Scribe(), list[int]()
    scribe.do(lambda: done.append(1))
    scribe.flush(PATIENCE)
    assert ([], True) == (done, scribe.is_idle)
    scribe.finish(PATIENCE)
    assert [1] == done
