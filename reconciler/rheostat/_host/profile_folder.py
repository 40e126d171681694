"""The files of profiles in a folder that the processes of one application share."""

import os
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Final, NamedTuple

_UNFINISHED: Final = ".part"


class ProfileFile(NamedTuple):
    """A file, its size in bytes, and when it was changed last (seconds since 1970)."""

    path: Path
    size: int
    changed: float


def superfluous(files: Iterable[ProfileFile], oldest: float, most: float = inf) -> list[Path]:
    """The files changed before `oldest`, and the oldest of those that have more than `most` bytes together."""
    total, found = 0, []
    for file in sorted(files, key=lambda file: file.changed, reverse=True):
        total += file.size
        if total > most or file.changed < oldest:
            found.append(file.path)
    return found


class ProfileFolder:
    """Owns one application's files there, of all its processes: how they are named, and which of them have to go.

    `<application>-<pid>-<time><label><ending>` is the name of one that is whole, with `.part` after it until it is.
    Each method raises OSError. They use no file descriptor of `os`, so that a native thread may call them beside green
    ones.
    """

    def __init__(self, path: str, application: str, ending: str, *, max_total_size: int, max_age: float) -> None:
        """`max_total_size` is in bytes, `max_age` in seconds. Nothing is looked at before the first file."""
        self._path = Path(path)
        self._application = re.sub(r"[^\w.-]", "_", application, flags=re.ASCII)
        self._ending = ending
        self._name = re.compile(
            rf"{re.escape(self._application)}-\d+-\d{{8}}T\d{{12}}Z(-\w+)?{re.escape(ending)}(\.part)?", re.ASCII
        )
        self._most = max_total_size
        self._longest = max_age

    def begin(self, label: str = "") -> Path:
        """A new, empty file, which is not whole yet."""
        self._path.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        kind = "-" + re.sub(r"\W", "_", label, flags=re.ASCII) if label else ""
        path = self._path / f"{self._application}-{os.getpid()}-{now}{kind}{self._ending}{_UNFINISHED}"
        with open(path, "xb"):
            return path

    def finish(self, path: Path) -> Path:
        """The file is whole, and has its name; what is too old or too much is deleted."""
        whole = path.with_suffix("")
        path.rename(whole)
        self.prune()
        return whole

    def add(self, content: bytes, label: str = "") -> Path:
        """A file with this content; nothing is left of one that cannot be written."""
        path = self.begin(label)
        try:
            with open(path, "wb") as file:
                file.write(content)
            return self.finish(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def check(self) -> None:
        """Raises OSError if a file could not be begun now."""
        self.begin().unlink()

    def prune(self) -> None:
        """Keep so many bytes of whole files, and none that is too old.

        Other processes write here too: what is not whole may be theirs, and goes by its age alone.
        """
        oldest = time.time() - self._longest
        files = self._files()
        unfinished = [each for each in files if each.path.suffix == _UNFINISHED]
        whole = [each for each in files if each.path.suffix != _UNFINISHED]
        for path in (*superfluous(unfinished, oldest), *superfluous(whole, oldest, self._most)):
            path.unlink(missing_ok=True)

    def _files(self) -> list[ProfileFile]:
        found = []
        for path in self._path.iterdir():
            if not self._name.fullmatch(path.name):
                continue
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # another process has deleted it
            found.append(ProfileFile(path, status.st_size, status.st_mtime))
        return found


ProfileFolder.__module__ = "rheostat.plugins"
