"""A YAML file of flags, watched without a thread: a flat mapping of flag to value."""

import os
import posix
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from rheostat.plugins import (
    Duration,
    FilePath,
    Identity,
    InvalidOptions,
    Reading,
    SourceUnavailable,
    flag_names,
    parse_flags,
)

LARGEST: Final = 64 * 1024
"""Bytes a flags file may have."""

LOOK_AGAIN: Final = 0.02
"""Seconds until a file that is just being written is looked at again."""

_SHORTEST_POLL: Final = 0.01
_PIECE: Final = 8 * 1024


# Nobody compares options, and each method that a dataclass writes costs the importing process.
@dataclass(frozen=True, kw_only=True, eq=False)
class YamlFileOptions:
    """`path` of the file, how often to look at it (seconds), and whether without the file no flag is defined.

    A file that was written more than `max_age` seconds ago (None: ever) is no longer relied on.
    """

    path: FilePath
    poll_interval: Duration = Duration(1.0)
    optional: bool = False
    max_age: Duration | None = None

    def __post_init__(self) -> None:
        wrong = {}
        if self.poll_interval < _SHORTEST_POLL:
            wrong["poll_interval"] = f"at least {_SHORTEST_POLL * 1000:g}ms"
        if self.max_age is not None and self.max_age < self.poll_interval:
            wrong["max_age"] = f"at least poll_interval ({self.poll_interval:g} s)"
        if wrong:
            raise InvalidOptions(wrong)


Signature = tuple[int, ...]


class YamlFileSource:
    """Looks at the file by ``os.stat`` in the caller's thread.

    Unlike file system notifications that notices in-place writes, atomic renames, symlink swaps and a folder that
    is deleted and made again, and needs no thread, no descriptor and no file to begin with.
    """

    Options: ClassVar[type] = YamlFileOptions
    is_thread_free: ClassVar[bool] = True

    def __init__(self, options: YamlFileOptions, identity: Identity) -> None:
        self._path = options.path
        self._poll_interval = options.poll_interval
        self._max_age = options.max_age
        self._without = Reading({}) if options.optional else None
        self._signature: Signature | None = None
        self._data: bytes | None = None
        self._found: Reading | str = f"{options.path}: is being written"
        self._unsettled = False

    @property
    def poll_interval(self) -> float | None:
        return min(LOOK_AGAIN, self._poll_interval) if self._unsettled else self._poll_interval

    def open(self, changed: Callable[[], None]) -> None:
        """Nothing to do: the file is looked at by `read`."""

    def read(self, wanted: Mapping[str, type]) -> Reading:
        again, self._unsettled = self._unsettled, False
        try:
            before = os.stat(self._path)
            if again or _signature(before) != self._signature:
                self._look(before, wanted)
        except (OSError, ValueError) as error:
            self._signature = None
            if self._without is not None and isinstance(error, FileNotFoundError):
                return self._without
            why = getattr(error, "strerror", None) or str(error)
            raise SourceUnavailable(f"{self._path}: {why}; expected a YAML file of flags") from None
        # A date in the future says as little as one long ago.
        if self._max_age is not None and abs(time.time() - before.st_mtime) > self._max_age:
            raise SourceUnavailable(
                f"{self._path}: it was not written within max_age ({self._max_age:g} s): is its writer still there?"
            )
        if isinstance(self._found, Reading):
            return self._found
        raise SourceUnavailable(self._found)

    def known_flags(self) -> Iterable[str]:
        return () if self._data is None else flag_names(self._data, str(self._path))

    def close(self) -> None:
        """Nothing to let go of."""

    def _look(self, before: os.stat_result, wanted: Mapping[str, type]) -> None:
        data = self._content(before)
        after = os.stat(self._path)
        if _signature(after) != _signature(before):
            # Half of it may be old: what is known holds until two looks agree.
            self._unsettled = True
            return
        self._signature = _signature(after)
        # Within one tick of the kernel's clock a second write leaves no trace in the stat.
        self._unsettled = _is_fresh(after)
        if data != self._data:
            self._data = data
            found = self._parse(data, wanted)
            if not _is_same(found, self._found):
                self._found = found

    def _content(self, found: os.stat_result) -> bytes:
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("not a regular file")
        # Should a pipe take the file's place in this moment, opening it must not wait for a writer.
        # By the system's own calls: those of `os` are eventlet's where it has been patched, and want a hub. A file
        # object of Python's would take several times as long.
        descriptor = posix.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            data = b""
            while len(data) <= LARGEST and (piece := posix.read(descriptor, _PIECE)):
                data += piece
            return data
        finally:
            posix.close(descriptor)

    def _parse(self, data: bytes, wanted: Mapping[str, type]) -> Reading | str:
        if len(data) > LARGEST:
            return f"{self._path}: found more than {LARGEST // 1024} KiB, expected a small file of flags"
        try:
            return parse_flags(data, str(self._path), wanted)
        except SourceUnavailable as unavailable:
            # Raising one exception object again and again would make its traceback grow.
            return unavailable.reason


def _signature(found: os.stat_result) -> Signature:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _is_same(one: Reading | str, other: Reading | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return one.is_same_as(other)


def _is_fresh(found: os.stat_result) -> bool:
    """It was written, or given another time, a moment ago."""
    written = max((found.st_mtime_ns, found.st_ctime_ns), key=lambda moment: -abs(time.time_ns() - moment))
    return abs(time.time_ns() - written) < LOOK_AGAIN * 1e9
