"""Starts of the profiler that the process may not have survived."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

from rheostat._contract.identity import Identity
from rheostat._contract.values import Value
from rheostat._control.session_record import owner
from rheostat._core.desired import same_settings
from rheostat._host.living import ProcessId, boot, oom_kills
from rheostat._host.scribe import Scribe
from rheostat._host.state_folder import StateFolder

_MOST: Final = 200
"""Files of dead processes that are looked at; more are removed unread."""

_Result = TypeVar("_Result")


class CrashRecord:
    """Owns a file for each session that has begun and not yet lasted long enough: a dead process leaves it behind."""

    def __init__(self, folder: StateFolder, identity: Identity, scribe: Scribe) -> None:
        self._folder = folder
        self._of_service = f"start-{owner(identity)}-"
        self._scribe = scribe
        self._me = ProcessId.of(identity.pid)
        self._number = 0
        self._open = ""
        """The file of the session that runs."""
        self._forgotten: set[str] = set()
        self.trouble: OSError | None = None
        """Why the last start has no file."""

    def starting(self, start: Callable[[], _Result], settings: Mapping[str, Value]) -> Callable[[], _Result]:
        """For the call's thread: the file has to be there before the profiler may crash the process."""
        parent = ProcessId.of(os.getppid())
        note = {"settings": dict(settings), "parent": parent, "boot": boot(), "oom_kills": oom_kills()}

        # Each start has a file of its own: that of the last one may be yet to be removed.
        self._number += 1
        name = f"{self._of_service}{self._me.pid}-{self._me.began}-{self._number}.json"

        def call() -> _Result:
            try:
                self._folder.write(name, json.dumps(note).encode())
                self._open, self.trouble = name, None
            except OSError as error:
                self.trouble = error
            return start()

        return call

    def close(self) -> None:
        """The session has lasted, or has been ended."""
        if self._open:
            self._remove(self._open)
            self._open = ""

    def crashes(self) -> list[Mapping[str, Value]]:
        """The settings of each session that a process has died of, as it seems. Raises OSError."""
        return [settings for _, settings in self._dead()]

    def forget(self, settings: Mapping[str, Value] | None = None) -> None:
        """Those with these settings, or all."""
        with suppress(OSError):
            for name, found in self._dead():
                if settings is None or same_settings(found, settings):
                    self._remove(name)

    def _dead(self) -> list[tuple[str, Mapping[str, Value]]]:
        names = [each for each in self._folder.names() if each.startswith(self._of_service)]
        self._forgotten.intersection_update(names)
        dead = [each for each in names if each not in self._forgotten and not _process_of(each).is_alive]
        for name in dead[_MOST:]:
            self._remove(name)
        found = [(name, self._read(name)) for name in dead[:_MOST]]
        return [(name, settings) for name, settings in found if settings is not None]

    def _read(self, name: str) -> Mapping[str, Value] | None:
        """The settings, if the profiler may be to blame: not where the kernel or whoever began the process ended it."""
        try:
            note: Any = json.loads(self._folder.read(name) or b"null")
            parent = ProcessId(int(note["parent"][0]), str(note["parent"][1]))
            settings: Mapping[str, Value] = dict(note["settings"])
            is_blamed = note["boot"] == boot() and parent.is_alive and note["oom_kills"] >= oom_kills()
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            is_blamed = False
        if is_blamed:
            return settings
        self._remove(name)
        return None

    def _remove(self, name: str) -> None:
        self._forgotten.add(name)
        self._scribe.do(lambda: self._folder.remove(name))


def _process_of(name: str) -> ProcessId:
    pid, _, rest = name.rpartition(".")[0].split("-", 2)[2].partition("-")
    return ProcessId(int(pid) if pid.isdecimal() else -1, rest.partition("-")[0])
