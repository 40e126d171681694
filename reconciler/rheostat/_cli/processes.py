"""The governed processes of this host, as their status files tell."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from glob import glob
from typing import Any, Final, NamedTuple

from rheostat._contract.text import LONGEST_LINE, shorten
from rheostat._host.living import ProcessId, boot, image_of, namespace
from rheostat._host.state_folder import StateFolder, default_paths
from rheostat._report.status_file import VERSION, process_of

_ALL_USERS: Final = ("/run/user/*/rheostat", "/tmp/rheostat-*")  # only read, and only by who asks for it
_LARGEST: Final = 64 * 1024


class Governed(NamedTuple):
    """A process that lives, and what it has written."""

    process: ProcessId
    said: Mapping[str, Any]

    def value(self, path: str) -> Any:
        """What is there, by a path like ``source.reason``; None where that is nothing of the kind."""
        found: Any = self.said
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def text(self, path: str) -> str:
        """The same as one printable line: a file may say anything."""
        found = self.value(path)
        return "" if found is None else shorten(str(found), LONGEST_LINE)

    def moment(self, path: str) -> float | None:
        found = self.value(path)
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def governed(folders: Sequence[str] = (), *, all_users: bool = False) -> list[Governed]:
    """Those of these folders, by default of this user; files that dead processes have left are removed.

    What is somebody else's is looked at only where it is asked for: others could say anything there. Of several files
    for one process the newest counts.
    """
    found: dict[ProcessId, Governed] = {}
    for folder in folders or _folders(all_users=all_users):
        for each in _read(folder, foreign=all_users or bool(folders)):
            before = found.setdefault(each.process, each)
            if (each.moment("written") or 0) > (before.moment("written") or 0):
                found[each.process] = each
    return sorted(found.values(), key=lambda each: (each.text("application"), each.process.pid))


def _folders(*, all_users: bool) -> list[str]:
    others = [each for pattern in _ALL_USERS for each in sorted(glob(pattern))] if all_users else []
    return list(dict.fromkeys([*default_paths(), *others]))


def _read(path: str, *, foreign: bool) -> Iterator[Governed]:
    folder = StateFolder(path)
    try:
        contents = {name: _content(folder, name) for name in folder.names()}
    except OSError:
        # Nothing is changed there.
        names: list[str] = []
        with suppress(OSError):
            names = os.listdir(path) if foreign else []
        contents = {name: _foreign(path, name) for name in names}
    for name, content in contents.items():
        found = _parsed(name, content)
        if found is not None:
            yield found


def _content(folder: StateFolder, name: str) -> bytes | None:
    """That of a living process; the file of a dead one is removed."""
    process = process_of(name)
    with suppress(OSError):
        if process is not None and process.is_alive:
            return folder.read(name)
        if process is not None and _is_of_this_host(folder.read(name)):
            folder.remove(name)
    return None


def _foreign(path: str, name: str) -> bytes | None:
    with suppress(OSError):
        file = os.open(os.path.join(path, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return os.read(file, _LARGEST)
        finally:
            os.close(file)
    return None


def _parsed(name: str, content: bytes | None) -> Governed | None:
    """None for what no living process of this host has written."""
    process = process_of(name)
    said = _decoded(content)
    if process is None or not process.is_alive or said.get("version") != VERSION or not _is_here(said):
        return None
    # A process that has become another program keeps its id and its beginning.
    images = {str(said.get("image", "")), image_of(process.pid)}
    if len(images) > 1 and not images & {"", "0"}:
        return None
    return Governed(process, said)


def _decoded(content: bytes | None) -> Mapping[str, Any]:
    try:
        said = json.loads(content or b"null")
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, Mapping) else {}


def _is_of_this_host(content: bytes | None) -> bool:
    """Or broken: nobody else can say anything of it."""
    said = _decoded(content)
    return not said or _is_here(said)


def _is_here(said: Mapping[str, Any]) -> bool:
    """The process ids of another container are not ours to judge."""
    return said.get("namespace") == namespace() or said.get("boot") != boot()
