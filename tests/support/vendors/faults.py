"""The ways in which a flag server misbehaves."""

from enum import StrEnum


class Fault(StrEnum):
    """A server that does not do its work: to new requests at once, and to open streams where that makes sense."""

    HANG = "hang"
    """Requests are read and never answered; open streams fall silent."""
    CUT = "cut"
    """Answers and events break off halfway, and the connection is closed."""
    RESET = "reset"
    """Connections are reset (RST) instead of answered."""
    STATUS_400 = "400"
    STATUS_401 = "401"
    STATUS_403 = "403"
    STATUS_404 = "404"
    STATUS_429 = "429"
    STATUS_500 = "500"
    STATUS_503 = "503"
    GARBAGE = "garbage"
    """The status and content type are right; the content is neither UTF-8 nor JSON."""
    HTML = "html"
    """A login page, with status 200, for everything."""
    EMPTY = "empty"
    """Status 200 and nothing in it."""
    MALFORMED = "malformed"
    """Proper JSON in the proper envelope, whose flags are no flags."""
    STREAM_ENDS_AT_ONCE = "stream ends at once"
    """Each stream ends cleanly after what it begins with; all else works."""
    STREAM_ENDS_EVERY_SECOND = "stream ends every second"
    """Each stream ends cleanly a second after it was opened; all else works."""
    STREAM_SILENT = "stream silent"
    """Streams open and stay open, and nothing comes; all else works."""
    REFUSED = "refused"
    """Nobody listens, and who was connected no longer is."""
    ENCRYPTED_WRONG = "encrypted wrong"
    """Flags come encrypted with a key that is not the client's."""

    BAD_HEADERS = "bad headers"
    """Every answer has a line among its headers that is none; all else works."""
    TRICKLE = "trickle"
    """Answers come a byte at a time and have no end; open streams live on."""

    @property
    def status(self) -> int | None:
        """The HTTP status, for those that are one."""
        return int(self) if self.isdecimal() else None
