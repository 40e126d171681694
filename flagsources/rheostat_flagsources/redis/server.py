"""The server's address, and what a connection to it needs."""

import re
from typing import NamedTuple
from urllib.parse import unquote

from rheostat.plugins import Secret, Url

_TCP = re.compile(
    r"(rediss?)://(?:([A-Za-z0-9._-]+)|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?(?:/([0-9]{1,5})?)?", re.ASCII
)
_UNIX = re.compile(r"unix://(/[^?#@\0\s]+)(?:\?db=([0-9]{1,5}))?", re.ASCII)


class Address(NamedTuple):
    """A host and its port, or the path of a socket; and the number of a database."""

    host: str
    port: int
    path: str
    database: int
    tls: bool


class Server(NamedTuple):
    """An address, who connects, how long that may take (seconds), and paths of PEM files, which may be empty."""

    address: Address
    username: str | None
    password: Secret | None
    timeout: float
    ca: str
    cert: str
    key: str


def address_of(url: Url) -> Address | None:
    """The parts of redis://host:6379/0, rediss://host or unix:///run/redis.sock?db=0; None: it is none of these."""
    scheme, separator, rest = url.reveal().partition("://")
    bare = scheme + separator + (rest.rpartition("@")[2] if url.credentials else rest)
    if found := _UNIX.fullmatch(bare):
        return Address("", 0, unquote(found[1]), int(found[2] or 0), tls=False)
    if found := _TCP.fullmatch(bare):
        return Address(found[2] or found[3], int(found[4] or 6379), "", int(found[5] or 0), tls=found[1] == "rediss")
    return None


def login_of(url: Url) -> tuple[str | None, Secret | None]:
    """The user and the password in front of the ``@``."""
    username, _, password = url.credentials.partition(":")
    return unquote(username) or None, Secret(unquote(password)) if password else None
