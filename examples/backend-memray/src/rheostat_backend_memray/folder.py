"""The folder of profiles: how its files are named, and which of them have to go."""

import os
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Final, NamedTuple

_UNFINISHED: Final = ".part"


class Profile(NamedTuple):
    """A file, its size in bytes, and when it was changed last (seconds since 1970)."""

    path: Path
    size: int
    changed: float


def superfluous(profiles: Iterable[Profile], oldest: float, most: float = inf) -> list[Path]:
    """The files changed before `oldest`, and the oldest of those that have more than `most` bytes together."""
    total, found = 0, []
    for profile in sorted(profiles, key=lambda profile: profile.changed, reverse=True):
        total += profile.size
        if total > most or profile.changed < oldest:
            found.append(profile.path)
    return found


class Folder:
    """One application's files, of all its processes: `<application>-<pid>-<time>.bin`, once they are whole."""

    def __init__(self, path: str, application: str) -> None:
        self._path = Path(path)
        self._application = re.sub(r"[^\w.-]", "_", application, flags=re.ASCII)
        self._name = re.compile(rf"{re.escape(self._application)}-\d+-\d{{8}}T\d{{12}}Z\.bin(\.part)?", re.ASCII)

    def begin(self) -> Path:
        """A new, empty file, which is not whole yet. Raises OSError."""
        self._path.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        path = self._path / f"{self._application}-{os.getpid()}-{now}.bin{_UNFINISHED}"
        path.touch(exist_ok=False)
        return path

    def finish(self, path: Path) -> None:
        """The file is whole. Raises OSError."""
        path.rename(path.with_suffix(""))

    def prune(self, most: int, longest: float) -> None:
        """Keep at most so many bytes, and no file that was changed more than `longest` seconds ago. Raises OSError.

        Other processes write here too: what is not whole may be theirs, and goes by its age alone.
        """
        oldest = time.time() - longest
        profiles = self._profiles()
        unfinished = [each for each in profiles if each.path.suffix == _UNFINISHED]
        whole = [each for each in profiles if each.path.suffix != _UNFINISHED]
        for path in (*superfluous(unfinished, oldest), *superfluous(whole, oldest, most)):
            path.unlink(missing_ok=True)

    def _profiles(self) -> list[Profile]:
        found = []
        for path in self._path.iterdir():
            if not self._name.fullmatch(path.name):
                continue
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # another process has pruned it
            found.append(Profile(path, status.st_size, status.st_mtime))
        return found
