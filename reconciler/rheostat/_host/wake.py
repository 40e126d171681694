"""Waking the control thread."""

import _thread


class Wake:
    """A bell: rung any number of times before the sleeper looks, it wakes it once.

    Made of a bare lock that is held while nobody has rung, because ringing it is atomic: unlike with
    `threading.Event`, a signal handler may ring while its own thread is in the middle of ringing.
    """

    def __init__(self) -> None:
        self._quiet = _thread.allocate_lock()
        self._quiet.acquire()

    def ring(self) -> None:
        """May be called from any thread, signal handler or finaliser; never blocks."""
        try:
            self._quiet.release()
        except RuntimeError:  # It has been rung already.
            return

    def wait(self, timeout: float) -> bool:
        """Sleep until it rings or `timeout` seconds have passed; tells which."""
        return self._quiet.acquire(timeout=min(max(timeout, 0.0), _thread.TIMEOUT_MAX))
