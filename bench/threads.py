"""The cost of a bare thread on this machine: a yardstick for what threads do."""

import threading
import time
from _thread import start_new_thread
from typing import Final

CALLED: Final = "a thread's end and start"
_REST: Final = 0.006
"""Seconds that it rests before it ends, as long as others do that are measured beside it."""


def end_and_start(times: int) -> list[float]:
    """Seconds from the moment at which a thread is told to end until it has ended and another has been started."""
    return [_end_and_start() for _ in range(times)]


def _end_and_start() -> float:
    waiting = threading.Lock()
    waiting.acquire()
    thread = threading.Thread(target=waiting.acquire, daemon=True)
    thread.start()
    time.sleep(_REST)
    began = time.perf_counter()
    waiting.release()
    thread.join()
    start_new_thread(int, ())
    return time.perf_counter() - began
