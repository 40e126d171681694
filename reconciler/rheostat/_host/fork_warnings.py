"""Warnings about forks of which only Rheostat is the reason."""

import sys
import threading
import warnings
from collections.abc import Callable

OURS = "rheostat"
"""How the names of all our threads begin."""

works_for_us: list[Callable[[threading.Thread], bool]] = []
"""Each tells whether a vendor's package has started a thread for Rheostat."""


class _AboutOurThreads:
    """From CPython 3.12 on ``os.fork`` warns of other threads; a host that has none of its own is not to hear it."""

    host_is_alone = False
    """Known of the fork that is under way: CPython 3.13 counts the threads when ours has been started again."""

    def match(self, text: str) -> bool:
        """Asked by the interpreter in place of a regular expression, for each DeprecationWarning."""
        return (
            text.startswith("This process (pid=")
            and "is multi-threaded" in text
            and (self.host_is_alone or _host_has_one_thread())
        )


_threads = _AboutOurThreads()
_filters: list[object] = [("ignore", _threads, DeprecationWarning, None, 0)] if sys.version_info >= (3, 12) else []


def silence_on_fork(message: str) -> None:
    """For a backend: a DeprecationWarning whose text begins like this regular expression, and which its profiler gives
    when the application forks, is not for the application's log."""
    if not any(isinstance(each, tuple) and getattr(each[1], "pattern", None) == message for each in _filters):
        import re

        _filters.append(("ignore", re.compile(message), DeprecationWarning, None, 0))
        # A fork may be under way, whose hooks were called before.
        be_quiet()


def before_fork(host_is_alone: bool) -> None:
    """`host_is_alone`: it is known that there is no thread but the one that forks."""
    _threads.host_is_alone = host_is_alone
    # Each time anew: the host may set its own filters at any time, or take ours back with a block's end.
    if _filters:
        be_quiet()


def be_quiet() -> None:
    """Put the filters before any other; what the host filters itself stays as it is."""
    filters: list[object] = warnings.filters  # type: ignore[assignment]  # typed as a read-only sequence
    if filters[: len(_filters)] != _filters:
        filters[:] = [*_filters, *(each for each in filters if each not in _filters)]


def _host_has_one_thread() -> bool:
    return sum(not _is_ours(each) for each in threading.enumerate()) <= 1


def _is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith(OURS) or any(claims(thread) for claims in works_for_us)
