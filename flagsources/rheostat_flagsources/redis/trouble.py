"""Trouble with a server, in words that are the same each time and hold no secret."""

import re
import ssl
from typing import Final

from redis import exceptions

from rheostat.plugins import SourceUnavailable, causes_of

NO_ANSWER: Final = "found no answer of Redis's protocol: is url right?"
CLOSED: Final = "the server closed the connection"

CLUSTER: Final = ("MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN", "TRYAGAIN")

_CODES: Final = {
    "NoPermissionError": "NOPERM",
    "BusyLoadingError": "LOADING",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
    "ClusterCrossSlotError": "CROSSSLOT",
    "TryAgainError": "TRYAGAIN",
    "MovedError": "MOVED",
    "AskError": "ASK",
}
"""What the client takes from the front of an error's text, by the class that it makes of it instead."""

_WORDS: Final = {
    **dict.fromkeys(CLUSTER, "it is a node of a cluster, which is not supported"),
    "NOPERM": "not permitted: the user's ACL has to allow it",
    "LOADING": "it is still loading its data",
    "MASTERDOWN": "it is a replica that has lost its master",
    "BUSY": "it is busy with a script",
}
_PLACE = re.compile(r" \(_ssl\.c:\d+\)$")
_CODE = re.compile(r"[A-Z]{2,20}", re.ASCII)


def too_long(timeout: float) -> SourceUnavailable:
    """The answer was not there in time."""
    return SourceUnavailable(f"no whole answer in time, timeout is {timeout:g} s")


def code_of(error: Exception) -> str:
    """The word by which the server names an error: WRONGTYPE, say."""
    code = _CODES.get(type(error).__name__) or str(error).partition(" ")[0]
    return code if _CODE.fullmatch(code) else "ERR"


def words_for(code: str) -> str:
    """The meaning of an error. Its own text is never shown: of a command that is unknown it has the arguments."""
    words = _WORDS.get(code)
    return f"{words} ({code})" if words else f"it answers with an error ({code})"


def trouble_with(error: Exception, timeout: float, *, has_password: bool) -> SourceUnavailable:
    """The trouble behind an error of the client's."""
    if isinstance(error, SourceUnavailable):
        return error
    if isinstance(error, exceptions.TimeoutError):
        return too_long(timeout)
    return SourceUnavailable(_in_words(error, has_password=has_password))


def _in_words(error: Exception, *, has_password: bool) -> str:
    if isinstance(error, exceptions.AuthenticationError):
        advice = "are username and password right?" if has_password else "it wants a password, set password"
        return f"the server refuses the user: {advice}"
    if isinstance(error, exceptions.ResponseError) and "DB index" in str(error):
        return "the server has no such database: is url right?"
    if isinstance(error, exceptions.ResponseError | exceptions.BusyLoadingError):
        return words_for(code_of(error))
    if said := _system_says(error):
        return said
    if isinstance(error, exceptions.ConnectionError):
        is_full = "max number of clients" in str(error)
        return "the server has as many clients as it may have" if is_full else CLOSED
    return NO_ANSWER


def _system_says(error: BaseException) -> str:
    """The words of the first error of the operating system, or of OpenSSL, among the causes."""
    for each in causes_of(error):
        if isinstance(each, ssl.SSLError):
            return _tls_says(each)
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
    return ""


def _tls_says(error: ssl.SSLError) -> str:
    """Without the line of OpenSSL's source."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted, {error.verify_message}: is ca_file right?"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return CLOSED
    return f"TLS fails, {_PLACE.sub('', error.strerror or 'for no reason')}"
