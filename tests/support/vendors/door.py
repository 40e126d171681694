"""A port on loopback that can be closed, and opened again with the same number."""

import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from .wire import Connection


class Door:
    """Accepts connections in a thread of its own while it is open."""

    def __init__(self, welcome: Callable[[Connection], None]) -> None:
        self._welcome = welcome
        self._reserved: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self.port = 0
        """Known once it has been open."""

    def open(self) -> None:
        """Listen; who connects is welcomed."""
        listening = self._reserved = self._reserved or self._bound()
        listening.listen(128)
        # Who has gone away before being accepted must not make accept() wait for the next.
        listening.setblocking(False)
        self._leave, left = socket.socketpair()
        self._thread = threading.Thread(
            target=self._accept, args=(listening, left), name="flag-server-door", daemon=True
        )
        self._thread.start()

    def shut(self) -> None:
        """Refuse connections, and keep the number."""
        self.close()
        self._reserved = self._bound()

    def close(self) -> None:
        """Refuse connections, and give the number back."""
        if self._thread is not None:
            self._leave.close()
            self._thread.join()
            self._thread = None
        if self._reserved is not None:
            # A forked child may hold the socket too, and would keep it listening.
            with suppress(OSError):
                self._reserved.shutdown(socket.SHUT_RDWR)
            self._reserved.close()
            self._reserved = None

    def _bound(self) -> socket.socket:
        # Bound but not listening, a socket refuses connections and still keeps others from taking its number.
        reserved = socket.socket()
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", self.port))
        self.port = reserved.getsockname()[1]
        return reserved

    def _accept(self, listening: socket.socket, left: socket.socket) -> None:
        with left:
            while left not in (ready := select.select([listening, left], [], [])[0]):
                with suppress(OSError):
                    accepted, _ = ready[0].accept()
                    accepted.setblocking(True)
                    self._welcome(Connection(accepted))
