"""The profiles that have arrived: the latest in memory, and as files in a folder of limited size."""

import gzip
import json
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from rheostat.receive.receiver import Profile, decode

_INDEX: Final = "index.jsonl"
_ENDING: Final = ".pb.gz"
_GZIP: Final = b"\x1f\x8b"
_MOST: Final = 2000
"""Profiles that are shown."""
_MOST_SAMPLES: Final = 300_000


class _Kept(NamedTuple):
    file: str
    labels: Mapping[str, str]
    size: int


class Archive:
    """Owns the profiles. `folder` (None: memory alone) holds `limit` bytes of files at most, the newest ones.

    Each file is a profile as `go tool pprof` and speedscope open it; the index beside them has their labels.
    """

    def __init__(self, folder: str | None, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._lock = threading.Lock()
        self._profiles: deque[Profile] = deque()
        self._samples = 0
        self._kept: deque[_Kept] = deque()
        self._number = 0
        self._complained = False
        if folder is not None:
            os.makedirs(folder, exist_ok=True)
            self._load(folder)

    def add(self, profile: Profile) -> None:
        """Keep it; a disk that takes no more is said once, and what arrives is shown all the same."""
        with self._lock:
            self._show(profile)
            if self._folder is None:
                return
            try:
                self._write(self._folder, profile)
            except OSError as error:
                if not self._complained:
                    self._complained = True
                    print(
                        f"rheostat: profiles cannot be kept: {error}; they are shown, and gone later", file=sys.stderr
                    )
            else:
                self._complained = False

    def profiles(self) -> list[Profile]:
        """The latest, oldest first."""
        with self._lock:
            return list(self._profiles)

    def _show(self, profile: Profile) -> None:
        self._profiles.append(profile)
        self._samples += len(profile.samples)
        while len(self._profiles) > _MOST or (self._samples > _MOST_SAMPLES and len(self._profiles) > 1):
            self._samples -= len(self._profiles.popleft().samples)

    def _write(self, folder: str, profile: Profile) -> None:
        # The agent compresses the whole push instead of each profile.
        pprof = profile.pprof if profile.pprof.startswith(_GZIP) else gzip.compress(profile.pprof, 6, mtime=0)
        self._number += 1
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(profile.ended_at))
        name = re.sub(r"[^\w.-]+", "_", profile.labels.get("service_name", "profile"))[:80]
        file = f"{name}-{moment}-{os.getpid()}-{self._number:06}{_ENDING}"
        draft = os.path.join(folder, f".{file}.new")
        try:
            with open(draft, "wb") as opened:
                opened.write(pprof)
            os.replace(draft, os.path.join(folder, file))
            with open(os.path.join(folder, _INDEX), "a") as index:
                index.write(json.dumps({"file": file, "labels": dict(profile.labels)}) + "\n")
        except OSError:
            for each in (draft, os.path.join(folder, file)):
                if os.path.exists(each):
                    os.unlink(each)
            raise
        self._kept.append(_Kept(file, profile.labels, len(pprof)))
        self._forget(folder)

    def _forget(self, folder: str) -> None:
        before = len(self._kept)
        while len(self._kept) > 1 and sum(each.size for each in self._kept) > self._limit:
            old = self._kept.popleft()
            if os.path.exists(path := os.path.join(folder, old.file)):
                os.unlink(path)
        if len(self._kept) < before:
            lines = (json.dumps({"file": each.file, "labels": dict(each.labels)}) + "\n" for each in self._kept)
            with open(os.path.join(folder, f".{_INDEX}.new"), "w") as index:
                index.writelines(lines)
            os.replace(os.path.join(folder, f".{_INDEX}.new"), os.path.join(folder, _INDEX))

    def _load(self, folder: str) -> None:
        """What another run has left; what is broken there is passed over."""
        for each in _indexed(folder):
            path = os.path.join(folder, each.file)
            try:
                with open(path, "rb") as file:
                    content = file.read()
                self._show(decode(each.labels, content))
            except (OSError, ValueError):
                continue
            self._kept.append(each._replace(size=len(content)))


def _indexed(folder: str) -> Iterator[_Kept]:
    try:
        with open(os.path.join(folder, _INDEX)) as index:
            lines = index.readlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        try:
            said = json.loads(line)
            file, labels = str(said["file"]), {str(key): str(value) for key, value in dict(said["labels"]).items()}
        except (ValueError, TypeError, KeyError):
            continue
        # No path that leads out of the folder.
        if file == os.path.basename(file) and file.endswith(_ENDING):
            yield _Kept(file, labels, 0)
