"""The cost of `rheostat.start()` to its caller: the thread of the application that is coming up.

Fresh processes in turns: with Rheostat, with a configuration that says `disabled`, and with what people write today,
which is a thread of their own or, as the agent's documentation has it, an import of the agent and a call of its
``configure`` while the application is imported. The wall-clock time of the call, with what it imports; the median
counts. The thread's polls, and what they import, come later.
"""

import statistics
import time
from pathlib import Path
from typing import Final

from .child import run
from .row import Row, show
from .stage import NOBODY, Stage, folder, log_to_nowhere
from .threads import CALLED, end_and_start

_AGENT: Final = "the agent's import and configure()"
_TIMES_THE_AGENT: Final = 0.5


def rows(quick: bool) -> list[Row]:
    rounds = 5 if quick else 15
    with folder() as where:
        kinds = (with_rheostat, with_disabled, with_agent, with_naive)
        times = [[run(kind, where / f"{kind.__name__}-{i}") for kind in kinds] for i in range(rounds)]
    started, disabled, agent, naive = (statistics.median(each) * 1000 for each in zip(*times, strict=True))
    thread = statistics.median(end_and_start(rounds)) * 1000
    return [
        Row.times(
            "start(): the caller's time",
            started,
            naive,
            most=_TIMES_THE_AGENT,
            yardstick=agent,
            called=_AGENT,
            unit="ms",
            note=f"the naive thread is only started, and reads no configuration; {CALLED}: {show(thread, 'ms')}",
        ),
        Row.times(
            "start(), disabled: the caller's time",
            disabled,
            naive,
            most=_TIMES_THE_AGENT,
            yardstick=agent,
            called=_AGENT,
            unit="ms",
        ),
    ]


def with_rheostat(where: Path) -> float:
    import rheostat

    stage, start = _staged(where), rheostat.start
    began = time.perf_counter()
    start(stage.config, strict=True)
    return time.perf_counter() - began


def with_disabled(where: Path) -> float:
    import rheostat

    stage, start = _staged(where), rheostat.start
    stage.config.write_text(stage.config.read_text() + "disabled: true\n")
    began = time.perf_counter()
    start(stage.config, strict=True)
    return time.perf_counter() - began


def with_agent(where: Path) -> float:
    _staged(where)
    began = time.perf_counter()
    import pyroscope

    pyroscope.configure(application_name="bench", server_address=NOBODY, sample_rate=20)
    return time.perf_counter() - began


def with_naive(where: Path) -> float:
    from .naive import NaiveThread

    stage = _staged(where)
    began = time.perf_counter()
    NaiveThread(stage.flags, NOBODY).start()
    return time.perf_counter() - began


def _staged(where: Path) -> Stage:
    log_to_nowhere()
    return Stage(where)
