"""The file by which others see what a process does."""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from rheostat._host.living import ProcessId, boot, image_of, namespace, read_text
from rheostat._host.scribe import Scribe
from rheostat._host.state_folder import StateFolder
from rheostat._report.status import Snapshot

VERSION: Final = 1
PREFIX: Final = "status-"
_LONGEST_COMMAND: Final = 1000


def name_of(process: ProcessId) -> str:
    return f"{PREFIX}{process.pid}-{process.began}.json"


def process_of(name: str) -> ProcessId | None:
    """The process whose file this is; None if it is no such file."""
    pid, _, began = name.removeprefix(PREFIX).removesuffix(".json").partition("-")
    is_one = name.startswith(PREFIX) and name.endswith(".json") and pid.isdecimal()
    return ProcessId(int(pid), began) if is_one else None


def command_of(pid: int) -> str:
    """The command line, in one text; empty if it cannot be read."""
    return read_text(f"/proc/{pid}/cmdline").replace("\0", " ").strip()[:_LONGEST_COMMAND]


class StatusFile:
    """Owns this process's file: written whole by the scribe whenever something has changed."""

    def __init__(
        self, folder: StateFolder, scribe: Scribe, who: Mapping[str, Any], masked: Callable[[Any], Any]
    ) -> None:
        """`who` are the fields that name the service, `masked` takes secrets out of plain data."""
        self._folder = folder
        self._scribe = scribe
        self._who = who
        self._masked = masked
        self._process = ProcessId.of(os.getpid())
        self._latest: Snapshot | None = None
        self._is_over = False

    def publish(self, snapshot: Snapshot) -> None:
        """Of what is published while the last is being written only the newest is."""
        self._latest = snapshot
        self._scribe.do(self._write)

    def remove(self) -> None:
        """The process governs nothing any more."""
        self._is_over = True
        self._scribe.do(lambda: self._folder.remove(name_of(self._process)))

    def _write(self) -> None:
        snapshot, self._latest = self._latest, None
        if snapshot is not None and not self._is_over:
            text = json.dumps(self._masked({**self._head(), **document(snapshot)}), default=str)
            self._folder.write(name_of(self._process), text.encode("utf-8", "surrogatepass"))

    def _head(self) -> Mapping[str, Any]:
        return {
            "version": VERSION,
            "pid": self._process.pid,
            "began": self._process.began,
            "boot": boot(),
            "namespace": namespace(),
            "image": image_of(self._process.pid),
            "command": command_of(self._process.pid),
            **self._who,
        }


def document(snapshot: Snapshot) -> Mapping[str, Any]:
    """The snapshot as plain data; moments are seconds of the wall clock, so that ages can be told later."""
    now, wall = time.monotonic(), time.time()

    def moment(at: float | None) -> float | None:
        return None if at is None or not math.isfinite(at) else round(wall - (now - at), 3)

    call, last, budget = snapshot.call, snapshot.last_transition, snapshot.budget
    waits = snapshot.waits_for if snapshot.waits_until > now else ""
    return {
        "written": round(wall, 3),
        "state": str(snapshot.state),
        "since": moment(snapshot.moved_at),
        "cause": "" if last is None else str(last.cause),
        "transitions": snapshot.seq,
        "desired": {"on": snapshot.desired.on, "settings": dict(snapshot.desired.settings)},
        "settings": dict(snapshot.settings),
        "adjustments": [each._asdict() for each in snapshot.adjustments],
        "flags": snapshot.flags_say_on,
        "brakes": [{"name": name, "word": word} for name, word in snapshot.words],
        "source": {
            "available": not snapshot.source_reason,
            "reason": snapshot.source_reason,
            "stale_since": moment(snapshot.stale_since),
            "retry_at": moment(snapshot.retry_at),
        },
        "operation": None if call is None else {"name": call[0], "since": moment(call[1]), "deadline": moment(call[2])},
        "waiting": {"for": waits, "until": moment(snapshot.waits_until)} if waits else None,
        "session_ends_at": moment(snapshot.session_ends_at),
        "budget": None if budget is None else budget._asdict(),
        "health": snapshot.health._asdict(),
        "delivery": snapshot.delivery._asdict(),
        "error": snapshot.error,
        "closed": snapshot.closed,
    }
