"""Processes that tests start: bounded in every wait, read line by line, and ended with all that is below them."""

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, Self

PATIENCE: Final = 20.0
"""Seconds after which a wait has failed, however slow the machine."""

_SCRIPT: Final = Path(sys.executable).parent / "rheostat"

APART: Final = next(
    (found for each in (sys.prefix, Path(sys.prefix).parent) if (found := Path(each) / "apart").exists()), Path("none")
)
"""The folder of what the tests need and the environment is not to have; see the Makefile."""


def program(name: str) -> str | None:
    """Where it is: on this machine, or among what is apart."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), str(APART / "bin"))))


MODULE: Final = (sys.executable, "-m", "rheostat")
RHEOSTAT: Final = (str(_SCRIPT),) if _SCRIPT.exists() else MODULE

_NOT_INHERITED: Final = ("PYTHON", "RHEOSTAT_")

Event = Mapping[str, Any]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's variables, without those that would change how a Python below it behaves."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    return {**kept, **(extra or {})}


def ended(
    command: Sequence[str | os.PathLike[str]],
    folder: Path,
    env: Mapping[str, str] | None = None,
    input: str = "",
    **options: Any,
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(env),
        input=input,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=PATIENCE,
        **{"stdout": subprocess.PIPE, **options},
    )


class Lines:
    """The lines of a stream as they come, read in a thread so that waiting for the next can be bounded."""

    def __init__(self, stream: IO[str]) -> None:
        self.seen: list[str] = []
        self._stream = stream
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def next(self) -> str | None:
        """The next line, or None at the end; raises TimeoutError if neither comes."""
        try:
            line = self._queue.get(timeout=PATIENCE)
        except queue.Empty:
            raise TimeoutError(f"nothing more came after: {self.seen}") from None
        if line is not None:
            self.seen.append(line)
        return line

    def until(self, wanted: Callable[[str], bool]) -> str:
        """The first of the next lines that is wanted."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            line = self.next()
            if line is None:
                break
            if wanted(line):
                return line
        raise AssertionError(f"no such line in {self.seen}")

    def rest(self) -> list[str]:
        """All lines from the first to the last, once the stream has ended."""
        while self.next() is not None:
            continue
        return self.seen

    def close(self) -> None:
        self._thread.join(PATIENCE)

    def _read(self) -> None:
        with self._stream as stream:
            for line in stream:
                self._queue.put(line.rstrip("\n"))
        self._queue.put(None)


class Child:
    """A running process in a session of its own; leaving the block kills what is left of that."""

    def __init__(
        self, command: Sequence[str | os.PathLike[str]], folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.input = self.process.stdin
        self.out = Lines(self.process.stdout)
        self.err = Lines(self.process.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(BrokenPipeError):
            self.input.close()
        self.process.wait(PATIENCE)
        self.out.close()
        self.err.close()

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        self.input.write(f"{line}\n")
        self.input.flush()

    def finish(self) -> int:
        """Close its standard input and give its exit code."""
        self.input.close()
        return self.process.wait(PATIENCE)

    def event(self, name: str, **fields: Any) -> Event:
        """The next of its JSON lines with this event and these fields."""

        def wanted(line: str) -> bool:
            found = parsed(line)
            return found.get("event") == name and fields.items() <= found.items()

        return parsed(self.err.until(wanted))

    def events(self) -> list[Event]:
        """All its JSON lines, from the first to the last. Raises ValueError if a line is anything else."""
        return [json.loads(line) for line in self.err.rest()]


def parsed(line: str) -> Event:
    """A JSON line; nothing for any other."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
