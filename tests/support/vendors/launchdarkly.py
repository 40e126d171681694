"""LaunchDarkly, as its server-side SDKs know it: all flags at first, then each change, on one stream."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from .faults import Fault
from .server import GARBAGE, FlagServer, error
from .wire import Page, Request, compact

Flag = Mapping[str, Any]
"""A flag's JSON. The server adds the key and version, unless they are in it."""

STREAM_PATH: Final = "/all"
POLL_PATH: Final = "/sdk/latest-all"

_NO_FLAG: Final[Flag] = {"on": "yes", "variations": "all", "fallthrough": []}


class LaunchDarklyServer(FlagServer):
    """`GET /all` and `GET /sdk/latest-all`."""

    def __init__(self, sdk_key: str = "sdk-00000000-0000-0000-0000-000000000000") -> None:
        super().__init__()
        self.sdk_key = sdk_key
        self._flags: Mapping[str, Flag] = {}
        self._versions: dict[str, int] = {}
        self._version = 0

    def set_flags(self, values: Mapping[str, object], *, push: bool = True) -> None:
        """Make these all the flags there are, each with one value for everyone."""
        self._replace({key: flag_of(value) for key, value in values.items()}, push)

    def set_raw(self, key: str, flag: Flag, *, push: bool = True) -> None:
        """Add or replace one flag. Without `push` no stream says so, as if it fell into a gap."""
        with self._changed:
            self._replace({**self._flags, key: flag}, push)

    def _replace(self, flags: Mapping[str, Flag], push: bool) -> None:
        with self._changed:
            removed = self._flags.keys() - flags.keys()
            # Compared as JSON, where 1 is not true.
            changed = [key for key, flag in flags.items() if compact(flag) != compact(self._flags.get(key))]
            self._version += 1
            self._versions |= dict.fromkeys(changed, self._version)
            self._flags = dict(flags)
            if push:
                self._push(b"".join([*map(self._patch, changed), *map(self._delete, sorted(removed))]))

    def _served(self) -> dict[str, Any]:
        flags = self._flags
        if self._fault is Fault.MALFORMED:
            flags = dict.fromkeys(flags or ("malformed",), _NO_FLAG)
        return {"flags": {key: self._complete(key, flag) for key, flag in flags.items()}, "segments": {}}

    def _complete(self, key: str, flag: Flag) -> Flag:
        return {"key": key, "version": self._versions.get(key, self._version), **flag}

    def _patch(self, key: str) -> bytes:
        return _event("patch", {"path": f"/flags/{key}", "data": self._served()["flags"][key]})

    def _delete(self, key: str) -> bytes:
        return _event("delete", {"path": f"/flags/{key}", "version": self._version})

    def _denied(self, request: Request) -> Page | None:
        if request.method != "GET" or request.path not in (STREAM_PATH, POLL_PATH):
            return error(HTTPStatus.NOT_FOUND)
        return None if request.headers.get("Authorization") == self.sdk_key else error(HTTPStatus.UNAUTHORIZED)

    def _wants_stream(self, request: Request) -> bool:
        return request.path == STREAM_PATH

    def _page(self) -> Page:
        return Page(compact(self._served()).encode())

    def _greeting(self) -> bytes:
        return self._everything()

    def _everything(self) -> bytes:
        return _event("put", {"path": "/", "data": self._served()})

    def _garbage(self) -> bytes:
        return b"event: put\ndata: %b\n\n" % GARBAGE

    def _heartbeat(self) -> bytes:
        return b":\n\n"


def flag_of(value: object, **changes: object) -> Flag:
    """A complete flag that has this value for everyone, and whatever is to differ from that."""
    return {
        "on": True,
        "variations": [value],
        "fallthrough": {"variation": 0},
        "offVariation": 0,
        "targets": [],
        "contextTargets": [],
        "rules": [],
        "prerequisites": [],
        "salt": "salt",
        "trackEvents": False,
        "trackEventsFallthrough": False,
        "debugEventsUntilDate": None,
        "clientSide": False,
        "deleted": False,
        **changes,
    }


def off_flag() -> Flag:
    """A flag that is off and does not say what its value then is."""
    return flag_of(True, on=False, offVariation=None)


def null_flag() -> Flag:
    """A flag whose value is null."""
    return flag_of(None)


def unevaluable_flag() -> Flag:
    """A flag that points to a variation which it does not have."""
    return flag_of(True, fallthrough={"variation": 7})


def ruled_flag(
    attribute: str, among: Sequence[object], then: object, otherwise: object, context_kind: str = "service"
) -> Flag:
    """A flag with one value where an attribute of the context is among some, and another elsewhere."""
    clause = {"contextKind": context_kind, "attribute": attribute, "op": "in", "values": among, "negate": False}
    rule = {"id": "rule-1", "variation": 1, "clauses": [clause], "trackEvents": False}
    return flag_of(None, variations=[otherwise, then], rules=[rule])


def _event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {compact(data)}\n\n".encode()
