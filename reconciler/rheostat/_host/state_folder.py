"""The folder in which the processes of one user leave word for each other and for the command line."""

import os
import posix
import stat
from contextlib import suppress
from typing import Final

_MODE: Final = 0o700
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_LARGEST: Final = 64 * 1024


def default_paths() -> list[str]:
    """The folders that processes of this user may have chosen, the first that exists or can be made first."""
    user = os.geteuid()
    below_tmp = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"rheostat-{user}")  # checked at use
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{user}"
    return [os.path.join(runtime, "rheostat"), below_tmp] if os.path.isdir(runtime) else [below_tmp]


class StateFolder:
    """Owns the files of one folder, which belongs to this user alone: anything else there is refused.

    Each method raises OSError. They make system calls only, so that any thread may use them.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, name: str) -> bytes | None:
        """The beginning of a file; None if there is none."""
        folder = self._open()
        try:
            file = posix.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        except FileNotFoundError:
            return None
        finally:
            posix.close(folder)
        try:
            return posix.read(file, _LARGEST)
        finally:
            posix.close(file)

    def write(self, name: str, content: bytes) -> None:
        """All of it, or nothing: a reader never sees a part."""
        folder = self._open()
        draft = f".{name}.{posix.getpid()}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            file = posix.open(draft, flags, 0o600, dir_fd=folder)
            try:
                # A disk that is full takes a part, and then says why.
                while content:
                    content = content[posix.write(file, content) :]
            finally:
                posix.close(file)
            posix.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            with suppress(OSError):
                posix.unlink(draft, dir_fd=folder)
            raise
        finally:
            posix.close(folder)

    def opened_for_locks(self, name: str) -> int:
        """The descriptor of a file, made if it is not there, whose locks alone are of interest."""
        folder = self._open()
        try:
            return posix.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=folder)
        finally:
            posix.close(folder)

    def remove(self, name: str) -> None:
        """Nothing, if there is no such file."""
        folder = self._open()
        try:
            with suppress(FileNotFoundError):
                posix.unlink(name, dir_fd=folder)
        finally:
            posix.close(folder)

    def make(self) -> None:
        """See that it is there, and ours."""
        posix.close(self._open())

    def names(self) -> list[str]:
        """Of all files; none where the folder has not been made yet."""
        try:
            folder = self._open(make=False)
        except FileNotFoundError:
            return []
        try:
            return [name for name in posix.listdir(folder) if not name.startswith(".")]
        finally:
            posix.close(folder)

    def _open(self, *, make: bool = True) -> int:
        if make:
            with suppress(FileExistsError):
                posix.mkdir(self.path, _MODE)
        # Whoever could put a link or a folder there would read what is left here, or have it written elsewhere.
        folder = posix.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        found = posix.fstat(folder)
        if found.st_uid != posix.geteuid() or found.st_mode & _WRITABLE_BY_OTHERS:
            posix.close(folder)
            raise PermissionError(f"{self.path} belongs to another user, or others may write there")
        return folder
