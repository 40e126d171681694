"""What is not said about a fork, because only Rheostat's own threads are the reason."""

import threading
import warnings
from typing import Final

from .vendorlog import is_vendors_thread_of_ours

OURS: Final = "rheostat"
"""How the names of all our threads begin."""


class _AboutOurThreads:
    """From CPython 3.12 on ``os.fork`` warns of other threads; a host that has none of its own is not to hear it."""

    def match(self, text: str) -> bool:
        """Asked by the interpreter in place of a regular expression, for each DeprecationWarning."""
        return text.startswith("This process (pid=") and "is multi-threaded" in text and _host_has_one_thread()


_FILTER: Final = ("ignore", _AboutOurThreads(), DeprecationWarning, None, 0)


def be_quiet() -> None:
    """Put the filter before any other; what the host filters itself stays as it is."""
    filters: list[object] = warnings.filters  # type: ignore[assignment]  # typed as a read-only sequence
    if not filters or filters[0] is not _FILTER:
        filters[:] = [_FILTER, *(each for each in filters if each is not _FILTER)]


def _host_has_one_thread() -> bool:
    return sum(not _is_ours(each) for each in threading.enumerate()) <= 1


def _is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith(OURS) or is_vendors_thread_of_ours(thread)
