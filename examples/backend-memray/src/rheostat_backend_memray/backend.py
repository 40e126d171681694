"""memray's tracker, started and stopped by Rheostat: each session leaves a file of what was allocated where."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from rheostat.plugins import (
    Bytes,
    Duration,
    FilePath,
    Health,
    Identity,
    InvalidOptions,
    Parameter,
    PermanentError,
    ProfileFolder,
    TemporaryError,
    Value,
    import_vendor,
)

from .tracking import TRACKING

_LEAST_TOTAL_SIZE: Final = 2**20
_LEAST_AGE: Final = 3600.0


@dataclass(frozen=True, kw_only=True)
class MemrayOptions:
    """The ``backend`` section: where the files go, the size that they may have together, and how old they may be."""

    folder: FilePath
    max_total_size: Bytes = Bytes(512 * 2**20)
    max_age: Duration = Duration(7 * 24 * 3600.0)

    def __post_init__(self) -> None:
        wrong = {}
        if self.max_total_size < _LEAST_TOTAL_SIZE:
            wrong["max_total_size"] = "1MiB or more"
        # The file of a session of another process is known to be in use by its age.
        if self.max_age < _LEAST_AGE:
            wrong["max_age"] = "1h or more"
        if wrong:
            raise InvalidOptions(wrong)


class MemrayBackend:
    """One session of memray's, which is global to the process. Imports memray at the first start."""

    Options: ClassVar[type] = MemrayOptions
    parameters: ClassVar[Mapping[str, Parameter] | None] = {
        # Frames of C, too.
        "native_traces": Parameter(bool, False),
        # Each object, not only each block that Python asks of the system: small objects cost five times as much.
        "trace_python_allocators": Parameter(bool, False),
    }

    def __init__(self, options: MemrayOptions, identity: Identity) -> None:
        self._options = options
        self._folder = ProfileFolder(
            options.folder,
            identity.application,
            ".bin",
            max_total_size=options.max_total_size,
            max_age=options.max_age,
        )
        self._file: Path | None = None

    def start(self, settings: Mapping[str, Value]) -> None:
        """Raises PermanentError without memray, TemporaryError if the folder or another tracker is in the way."""
        tuned = {name: settings.get(name, each.default) for name, each in (self.parameters or {}).items()}
        try:
            memray = import_vendor("memray", "memray")
        except ImportError as error:
            raise PermanentError(str(error)) from error
        try:
            file = self._folder.begin()
        except OSError as error:
            raise self._useless(error) from error
        try:
            TRACKING.begin(lambda: _tracker(memray, file, tuned))
        except BaseException as error:
            file.unlink(missing_ok=True)
            if isinstance(error, Exception):
                raise TemporaryError(
                    f"memray does not start: {error}; expected a process in which nothing else uses memray"
                ) from error
            raise
        self._file = file

    def stop(self) -> None:
        """Write the file, and delete what is too old or too much. Raises TemporaryError if the folder is in the way."""
        file, self._file = self._file, None
        if file is None:
            return
        TRACKING.end()
        try:
            self._folder.finish(file)
        except OSError as error:
            raise self._useless(error) from error

    def probe(self) -> Health:
        """Whether the session's file is there, to be written at its end; it is young for as long as somebody asks."""
        if self._file is None:
            return Health("failed", "no session")
        try:
            os.utime(self._file)
        except OSError as error:
            return Health("failed", f"{self._file}: {error.strerror}")
        return Health("healthy", str(self._file))

    def _useless(self, error: OSError) -> TemporaryError:
        return TemporaryError(f"{self._options.folder}: {error.strerror}; expected a folder to write to")


def _tracker(memray: Any, file: Path, tuned: Mapping[str, Value]) -> Any:
    # What is aggregated in memory makes a small file at the end, where each allocation's record would fill the disk.
    # It is not compressed, because memray does that with the whole process waiting.
    destination = memray.FileDestination(file, overwrite=True, compress_on_exit=False)
    return memray.Tracker(destination=destination, file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS, **tuned)
