"""What a server says of its own accord: that something may have changed."""

from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from rheostat.plugins import SourceUnavailable
from rheostat_flagsources.redis.link import Link
from rheostat_flagsources.redis.trouble import NO_ANSWER, code_of, words_for

_STORM: Final = 1000
"""Notices between two checks, from which on they are more work than polling."""


class Notices:
    """A connection on which channels are followed. After a method has raised `SourceUnavailable` it is of no use."""

    def __init__(self, link: Link, channels: Sequence[str]) -> None:
        self._link = link
        self._channels = channels
        self._count = 0

    def open(self) -> None:
        """Once this has returned no notice is missed."""
        self._link.send([("SUBSCRIBE", each) for each in self._channels])
        left = len(self._channels)
        while left:
            reply = self._link.reply()
            if isinstance(reply, ResponseError):
                self._link.close()
                raise SourceUnavailable(f"SUBSCRIBE: {words_for(code_of(reply))}")
            if not isinstance(reply, list):
                self._link.close()
                raise SourceUnavailable(NO_ANSWER)
            left -= _is(reply, b"subscribe")
            self._note(reply)

    def hear(self, seconds: float) -> bool:
        """Whether there is a notice within so many seconds; all that are there are taken."""
        heard = False
        while self._link.has_more(0.0 if heard else seconds):
            heard |= self._note(self._link.reply())
        return heard

    def check(self) -> bool:
        """Whether there is a notice of anything that happened before; raises if the connection is dead."""
        self._link.send([("PING",)])
        heard = False
        # A user who may not do it gets an answer, too.
        while not (_is(reply := self._link.reply(), b"pong") or isinstance(reply, ResponseError)):
            heard |= self._note(reply)
        self._count = 0
        return heard

    def _note(self, reply: Any) -> bool:
        self._count += 1
        if self._count > _STORM:
            self._link.close()
            raise SourceUnavailable(f"more than {_STORM} notices between two polls")
        return _is(reply, b"message")


def _is(reply: Any, kind: bytes) -> bool:
    return isinstance(reply, list) and reply[:1] == [kind]
