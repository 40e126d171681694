"""A process in which nothing but a plug-in lives, for what cannot be seen or tried in the one that tests."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, Self

Report = Mapping[str, Any]

_BEGINNING: Final = 6.0
"""Seconds that the first report may take: the interpreter starts, and all is imported, on a machine that is busy."""
_KILLED: Final = 5.0
"""Seconds that a process may take to vanish once it is killed."""


class OwnProcess:
    """Runs `stage` with a configuration's plug-in, from the entry to the exit of a `with` block.

    It is told what to do line by line, and reports in JSON lines; each wait ends after `patience` seconds.
    """

    def __init__(
        self, stage: Literal["source", "backend"], config: Path, patience: float, imports: Iterable[str], **more: object
    ) -> None:
        self.patience = patience
        self._reports: queue.SimpleQueue[Report | None] = queue.SimpleQueue()
        self._seen: list[Report] = []
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  # closed at the end of the block
        order = {"config": str(config), "patience": patience, "imports": list(imports), **more}
        # The plug-in may write to stdout: reports have a way of their own.
        self._reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"rheostat.testing.{stage}_stage", str(writing), json.dumps(order)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(each or os.curdir for each in sys.path)},
                stdin=subprocess.PIPE,
                stdout=self._printed,
                stderr=self._printed,
                pass_fds=[writing],
                start_new_session=True,
            )
        finally:
            os.close(writing)
        self._thread = threading.Thread(target=self._listen, name="rheostat-kit", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_KILLED)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._thread.join(_KILLED)
        self._printed.close()

    def tell(self, order: str) -> None:
        """Give it an order; one that has ended already is found out by the next wait."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{order}\n".encode())
            self._process.stdin.flush()

    def until(self, holds: Callable[[Report], object], expected: str) -> Report:
        """The next report for which this holds; AssertionError if none comes."""
        patience = self.patience if self._seen else max(self.patience, _BEGINNING)
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            try:
                report = self._reports.get(timeout=left)
            except queue.Empty:
                break
            if report is None:
                break
            self._seen.append(report)
            if holds(report):
                return report
        raise AssertionError(
            f"in a process of its own, expected {expected} within {patience:g} s; found {self._seen}, "
            f"and on stdout and stderr {self.printed()!r}"
        )

    def ended(self, within: float) -> int | None:
        """Its exit code, or None if it goes on for longer than `within` seconds."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            return None

    def printed(self) -> str:
        """All that was written to stdout and stderr."""
        # The process writes at the offset of this very file: it must not be moved.
        file = self._printed.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")

    def _listen(self) -> None:
        with open(self._reading, encoding="utf-8") as stream:
            for line in stream:
                self._reports.put(json.loads(line))
        self._reports.put(None)
