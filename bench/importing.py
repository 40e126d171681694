"""The cost of having Rheostat in a process that is not profiled: import time, memory, and no vendor.

Bare children in turns: one imports Rheostat and loads a configuration, one imports only what Rheostat depends on, one
imports what the naive thread does. Each takes the CPU time and its resident memory before and after; the median counts.
Disk caches and bytecode are warm: the first round does not count.
"""

import statistics
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from .child import environment, run
from .row import Row, show
from .stage import Stage, folder

_RHEOSTAT: Final = "import rheostat; from rheostat._config.config import load_config; load_config('config.yaml')"
_DEPENDENCIES: Final = "import yaml, transitions"
_NAIVE: Final = "import threading, time, yaml, pyroscope"

_MEASURED: Final = """\
import time
def resident():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Rss:"))
before, began = resident(), time.process_time()
{code}
print(time.process_time() - began, resident() - before)
"""

_VENDORS: Final = frozenset({"pyroscope", "growthbook", "ldclient", "openfeature"})

_TIMES: Final = 1.4
_MORE_MEMORY: Final = 3.0


class Cost(NamedTuple):
    """Of importing: ms of CPU, MB of resident memory."""

    time: float
    memory: float


def rows(quick: bool) -> list[Row]:
    rounds = 7 if quick else 21
    with folder() as where:
        Stage(where)
        rheostat, dependencies, naive = measure(where, rounds)
        vendors = run(vendors_while_off, where)
    alone = f"yaml and transitions alone take {show(dependencies.time, 'ms')} and {show(dependencies.memory, 'MB')}"
    return [
        Row.times(
            "import and load_config: CPU",
            rheostat.time,
            naive.time,
            most=_TIMES,
            yardstick=dependencies.time,
            called="yaml and transitions",
            unit="ms",
            note=f"{alone}: Rheostat takes {rheostat.time / dependencies.time:.2f} x and "
            f"{rheostat.memory - dependencies.memory:+.1f} MB",
        ),
        Row.of(
            "import and load_config: memory",
            rheostat.memory,
            naive.memory,
            limit=dependencies.memory + _MORE_MEMORY,
            unit="MB",
        )._replace(promise=f"≤ yaml and transitions + {show(_MORE_MEMORY, 'MB')}"),
        Row.of("vendor modules imported while profiling is off", vendors, 1, limit=0),
    ]


def measure(where: Path, rounds: int) -> list[Cost]:
    """The median cost of each of the three."""
    children = [(_RHEOSTAT, _DEPENDENCIES, _NAIVE)] * (rounds + 1)
    costs = [[_cost(where, code) for code in each] for each in children][1:]
    return [
        Cost(statistics.median(each.time for each in kind), statistics.median(each.memory for each in kind))
        for kind in zip(*costs, strict=True)
    ]


def _cost(where: Path, code: str) -> Cost:
    command = [sys.executable, "-c", _MEASURED.format(code=code)]
    ended = subprocess.run(command, cwd=where, env=environment(), capture_output=True, timeout=20, check=True)
    seconds, kibibytes = ended.stdout.split()
    return Cost(float(seconds) * 1e3, int(kibibytes) * 1024 / 1e6)


def vendors_while_off(where: Path) -> int:
    """How many of them are there once Rheostat has read its flags, which say off."""
    from .governed import Governed

    governed = Governed(where / "config.yaml")
    governed.wait_for_flags()
    governed.close()
    return len(_VENDORS.intersection(sys.modules))
