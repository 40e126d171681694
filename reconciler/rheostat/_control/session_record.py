"""Since when the flags have said on, for the processes to come."""

import json
from hashlib import sha256
from typing import Final, NamedTuple

from rheostat._contract.identity import Identity
from rheostat._contract.values import Value
from rheostat._host.scribe import Scribe
from rheostat._host.state_folder import StateFolder

_SAME: Final = 1.0
"""Seconds by which processes may differ about the beginning of one session."""


def owner(identity: Identity) -> str:
    """What the files of one service are known by, whatever it is called."""
    return sha256(f"{identity.application}\0{identity.instance}".encode("utf-8", "surrogateescape")).hexdigest()[:16]


class Since(NamedTuple):
    """A session that the flags have turned on, at a moment of the wall clock."""

    wall: float
    session_id: Value | None


class SessionRecord:
    """Owns the file that tells a process which session its predecessors have begun, or ended."""

    def __init__(self, folder: StateFolder, identity: Identity, scribe: Scribe) -> None:
        self._folder = folder
        self._name = f"session-{owner(identity)}.json"
        self._scribe = scribe
        self._known: Since | None = None

    def load(self) -> Since | None:
        """Raises OSError."""
        self._known = self._read()
        return self._known

    def keep(self, since: float | None, session_id: Value | None) -> None:
        """`since` is of the wall clock; None: the flags say off, so that the next on begins another session."""
        before, self._known = self._known, None if since is None else Since(since, session_id)
        if since is not None:
            content = json.dumps({"since": since, "session_id": session_id}).encode()
            self._scribe.do(lambda: self._folder.write(self._name, content))
        elif before is not None:
            self._scribe.do(lambda: self._remove(before))

    def _remove(self, ended: Since) -> None:
        """Unless another process, which has seen the flags sooner, has begun the next one."""
        found = self._read()
        if found is not None and found.wall <= ended.wall + _SAME:
            self._folder.remove(self._name)

    def _read(self) -> Since | None:
        """What is not ours counts as nothing."""
        try:
            found = json.loads(self._folder.read(self._name) or b"null")
            return Since(float(found["since"]), found["session_id"])
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
            return None
