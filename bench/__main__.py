"""Measure what Rheostat promises, beside the naive polling thread in the same run, and print one table.

Exit code 0 if every promise is kept, 1 otherwise.
"""

import argparse
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from os import cpu_count
from typing import Final

from . import (
    budgeting,
    endurance,
    fleet,
    forking,
    greenlets,
    hanging,
    holding,
    hurrying,
    idle,
    importing,
    keeping,
    latency,
    leaving,
    mirroring,
    overhead,
    profilers,
    pushing,
    reading,
    reopening,
    sampling,
    serving,
    starting,
    steady,
    stopping,
)
from .child import ChildFailed
from .row import Row, table

_FAMILIES: Final = (
    steady,
    stopping,
    idle,
    overhead,
    holding,
    latency,
    leaving,
    importing,
    starting,
    hurrying,
    endurance,
    forking,
    greenlets,
    fleet,
    pushing,
    reading,
    keeping,
    mirroring,
    reopening,
    sampling,
    budgeting,
    profilers,
    serving,
    hanging,
)


def main() -> int:
    families = {_name(family): family.rows for family in _FAMILIES}
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, noisier figures")
    parser.add_argument("--only", nargs="+", choices=families, help="measure nothing else")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for name in arguments.only or families:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        rows += _measured(name, families[name], arguments.quick)
    print(
        f"CPython {platform.python_version()}, {platform.machine()}, {cpu_count()} cores, "
        f"pyroscope-io {version('pyroscope-io')}, all on loopback\n"
    )
    print(table(rows))
    return 0 if all(row.kept for row in rows) else 1


def _name(family: object) -> str:
    return getattr(family, "__name__", "").rpartition(".")[2]


def _measured(name: str, measure: Callable[[bool], list[Row]], quick: bool) -> list[Row]:
    try:
        return measure(quick)
    except (ChildFailed, OSError, subprocess.SubprocessError) as error:
        return [Row.missing(name, str(error))]


if __name__ == "__main__":
    sys.exit(main())
