"""Processes, told apart though the kernel gives a process id again."""

import os
import posix
from typing import Final, NamedTuple

_START_TIME: Final = 19
_STACK: Final = 25
"""Fields of /proc/PID/stat after the command's name, whatever that is: when it began, and where its stack does."""


class ProcessId(NamedTuple):
    """A process: its id, and when it began, in ticks since the host did (empty where that cannot be told)."""

    pid: int
    began: str

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        return cls(pid, _began(pid))

    @property
    def is_alive(self) -> bool:
        if self.pid <= 0:
            return True
        if self.began:
            return _began(self.pid) == self.began
        # Where there is no /proc.
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def image_of(pid: int) -> str:
    """What tells the program that a process runs from the one that it has become since: each has a stack of its own.

    Its command line does not: servers write over theirs. "0", or empty, where that cannot be told.
    """
    return _field(pid, _STACK)


def _began(pid: int) -> str:
    return _field(pid, _START_TIME)


def _field(pid: int, number: int) -> str:
    fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    # One that has ended, and that nobody has asked for yet, is still listed.
    return fields[number] if len(fields) > number and fields[0] not in ("Z", "X") else ""


def boot() -> str:
    """What tells this run of the host from others; empty where that cannot be told."""
    return read_text("/proc/sys/kernel/random/boot_id").strip()


def namespace() -> str:
    """What tells the process ids that this process sees from those of other containers."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def oom_kills() -> int:
    """How many processes of this control group the kernel has killed for want of memory, where that can be told."""
    group = next((line[3:].strip() for line in read_text("/proc/self/cgroup").splitlines() if line[:3] == "0::"), "/")
    for line in read_text(f"/sys/fs/cgroup{group.rstrip('/')}/memory.events").splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill" and count.strip().isdigit():
            return int(count)
    return 0


def read_text(path: str) -> str:
    """The beginning of a small file of the kernel's; empty if it cannot be read."""
    try:
        file = posix.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return posix.read(file, 4096).decode(errors="replace")
    except OSError:
        return ""
    finally:
        posix.close(file)
