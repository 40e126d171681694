"""The work of both stages: take the order, report, and fork. A stage runs in a process of a kit's own."""

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rheostat._host.forks import FORKS


class Stage(NamedTuple):
    """The order that was given, and the way to report."""

    reports: int
    order: Mapping[str, Any]

    @classmethod
    def set(cls) -> "Stage":
        # As in every process that Rheostat governs.
        os.register_at_fork(before=FORKS.before, after_in_parent=FORKS.release, after_in_child=FORKS.after_in_child)
        return cls(int(sys.argv[1]), json.loads(sys.argv[2]))

    def report(self, **facts: object) -> None:
        os.write(self.reports, json.dumps(facts, default=str).encode() + b"\n")

    def fork(self, act: Callable[[], None]) -> int:
        """Do this in a forked child, whose way out is short; gives its process id."""
        with warnings.catch_warnings():
            # That threads and forks do not go together is known.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                act()
            except BaseException:
                self.report(who="forked child", raised=traceback.format_exc())
            finally:
                os._exit(0)
        return child
