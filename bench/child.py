"""Measurements in an interpreter of their own, bounded in time and ended by their process id.

What a process has imported, allocated or started stays with it, so nothing is measured in one that did something else
before.
"""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

_ROOT: Final = Path(__file__).resolve().parent.parent
_NOT_INHERITED: Final = ("PYTHON", "RHEOSTAT_")
_PATIENCE: Final = 170.0
"""Seconds after which a measurement has failed."""

_RUNNING: Final[set["subprocess.Popen[bytes]"]] = set()

Result = TypeVar("Result")


class ChildFailed(RuntimeError):
    """The measurement gave no result; the text is the last line that the process wrote."""


class Ended(NamedTuple, Generic[Result]):
    """The function's result, and how the process ended after it.

    `delay`: seconds from the end of the main code to the end of the process. `killed`: it did not end by itself.
    """

    result: Result
    delay: float
    killed: bool


def environment() -> dict[str, str]:
    """This process's, without what would change how a Python below it behaves, or lead away from loopback."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_NOT_INHERITED) and not name.lower().endswith("_proxy")
    }


def run(function: Callable[..., Result], *args: object) -> Result:
    """The result, in a fresh interpreter, of a function that a module of this package defines."""
    return run_to_end(function, *args).result


def run_to_end(function: Callable[..., Result], *args: object, within: float = _PATIENCE) -> Ended[Result]:
    """The same, with how the process ended. It is killed `within` seconds from its start."""
    command = [sys.executable, "-m", "bench.child"]
    with subprocess.Popen(
        command, cwd=_ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        _RUNNING.add(process)
        killed = False
        try:
            out, err = process.communicate(pickle.dumps((function, args)), timeout=within)
        except subprocess.TimeoutExpired:
            killed = True
            process.kill()
            out, err = process.communicate()
        except BaseException:
            process.kill()
            raise
        finally:
            _RUNNING.discard(process)
    ended = time.monotonic()
    if not out or (process.returncode and not killed):
        raise ChildFailed((err.decode(errors="replace").strip().splitlines() or [f"nothing in {within:.0f} s"])[-1])
    main_ended, result = pickle.loads(out)
    return Ended(result, ended - main_ended, killed)


def side_by_side(*calls: Callable[[], Result]) -> list[Result]:
    """The results of calls, each of which runs a child, at the same time. If one fails, no child is left."""
    with ThreadPoolExecutor(len(calls)) as pool:
        waiting = [pool.submit(call) for call in calls]
        try:
            return [each.result() for each in waiting]
        except BaseException:
            for process in tuple(_RUNNING):
                process.kill()
            raise


def _main() -> None:
    function, args = pickle.load(sys.stdin.buffer)
    result = function(*args)
    sys.stdout.buffer.write(pickle.dumps((time.monotonic(), result)))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main()
