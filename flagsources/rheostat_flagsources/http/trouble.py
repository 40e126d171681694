"""Trouble with an endpoint, in words that are the same each time and hold no secret."""

from typing import Final

from urllib3.exceptions import TimeoutError

from rheostat.plugins import causes_of

_HINTS: Final = {
    **dict.fromkeys((301, 302, 303, 307, 308), "the flags are elsewhere, set url; no credentials are sent there"),
    **dict.fromkeys((401, 403), "are the credentials right?"),
    404: "is url right?",
}

_LONGEST_RETRY: Final = 600.0


class Trouble(Exception):
    """Its text is one line for people: what was found, and what was expected or is to be done."""

    retry_after = 0.0


class TooLong(Trouble):
    """The answer was not there in time."""

    def __init__(self, timeout: float) -> None:
        super().__init__(f"no whole answer in time, timeout is {timeout:g} s")


class Refused(Trouble):
    """The endpoint answered, but not with flags."""

    def __init__(self, status: int, retry_after: str = "") -> None:
        super().__init__(f"HTTP {status}" + (f": {_HINTS[status]}" if status in _HINTS else ""))
        self.retry_after = min(float(retry_after), _LONGEST_RETRY) if retry_after.isdecimal() else 0.0
        """Seconds for which the server wants to be left alone."""


def trouble_with(error: Exception, timeout: float) -> Trouble:
    """The trouble behind an error of the HTTP client's, whose own text may have addresses of objects, or headers."""
    if isinstance(error, Trouble):
        return error
    for each in causes_of(error):
        if isinstance(each, OSError) and each.strerror:
            return Trouble(each.strerror)
    # To the client a connection that is refused is one of these, too.
    if isinstance(error, TimeoutError):
        return TooLong(timeout)
    return Trouble(f"the connection broke ({type(error).__name__})")
