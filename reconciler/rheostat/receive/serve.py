"""The command ``rheostat receive``."""

import signal
import sys
import threading
from typing import Any

from rheostat.receive.archive import Archive
from rheostat.receive.page import ArchivePages
from rheostat.receive.receiver import Receiver


def serve(port: int, folder: str | None, limit: int) -> int:
    """Take profiles until SIGTERM or SIGINT; gives the exit code. `limit` is in bytes of files in the folder."""
    ends = threading.Event()

    def end(*_: Any) -> None:
        ends.set()

    try:
        archive = Archive(folder, limit)
    except OSError as error:
        print(f"rheostat: the profiles' folder cannot be used: {error}", file=sys.stderr)
        return 1
    receiver = Receiver(port, pages=ArchivePages(archive), arrived=archive.add, remembers=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        with receiver:
            kept = f"are kept in {folder}" if folder else "are gone when this ends (--dir keeps them)"
            print(f"Profiles are taken and shown at {receiver.address}, and {kept}.", flush=True)
            ends.wait()
    except OSError as error:
        print(f"rheostat: port {port} cannot be had: {error}; --port 0 takes a free one", file=sys.stderr)
        return 1
    return 0
