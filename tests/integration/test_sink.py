"""The port on loopback that takes the agent's pushes, and nobody else's."""

import gzip
import http.client
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rheostat_backends.pyroscope.sink import Sink
from support.children import PATIENCE, ended


class Opened:
    """A sink, what it was given, and how it was answered."""

    def __init__(self) -> None:
        self.delivered: list[bytes] = []
        self.error: Exception | None = None
        self.sink = Sink(self._deliver)
        self.address = urlsplit(self.sink.open())

    def _deliver(self, push: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.delivered.append(push)

    def post(self, body: bytes, path: str | None = None, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.address.port or 0, timeout=PATIENCE)
        try:
            connection.request("POST", f"{self.address.path if path is None else path}/push", body, headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.address.port or 0), PATIENCE)


@pytest.fixture
def opened() -> Iterator[Opened]:
    made = Opened()
    yield made
    made.sink.close()


def test_a_push_is_delivered_before_it_is_answered(opened: Opened) -> None:
    """Packed or not."""
    assert 200 == opened.post(b"plain")
    assert 200 == opened.post(gzip.compress(b"packed"), **{"Content-Encoding": "gzip"})
    assert [b"plain", b"packed"] == opened.delivered


def test_who_does_not_know_the_path_is_turned_away(opened: Opened) -> None:
    """Another process of the host can reach the port, and push nothing."""
    for path in ("", "/guess", opened.address.path[:-1]):
        assert 404 == opened.post(b"foreign", path)
    assert [] == opened.delivered


def test_two_sinks_have_two_paths(opened: Opened) -> None:
    """That nobody guesses."""
    other = Opened()
    other.sink.close()
    assert opened.address.path != other.address.path
    assert len(opened.address.path) > 30


def test_what_cannot_be_delivered_is_answered_so(opened: Opened) -> None:
    """And the next push is taken."""
    opened.error = OSError("the disk is full")
    assert 500 == opened.post(b"lost")
    opened.error = None
    assert 500 == opened.post(b"no gzip", **{"Content-Encoding": "gzip"})
    bomb = gzip.compress(bytes(100 * 2**20))
    assert 500 == opened.post(bomb, **{"Content-Encoding": "gzip"})
    assert 413 == opened.post(b"", **{"Content-Length": str(2**30)})
    assert 200 == opened.post(b"kept")
    assert [b"kept"] == opened.delivered


@pytest.mark.parametrize("sent", [b"", b"nonsense\r\n\r\n", b"POST /", b"\0" * 40_000])
def test_who_sends_nonsense_and_leaves_is_forgotten(opened: Opened, sent: bytes) -> None:
    """The sink goes on to serve."""
    with opened.connect() as connection:
        connection.sendall(sent)
    assert 200 == opened.post(b"kept")


def test_it_ends_though_somebody_is_connected_and_silent(opened: Opened) -> None:
    """Its port and its thread are gone."""
    with opened.connect():
        opened.sink.close()
        assert not opened.sink.serves
        with pytest.raises(ConnectionRefusedError):
            opened.connect()
    assert "rheostat-sink" not in {thread.name for thread in threading.enumerate()}


FORKS = """
import os, warnings
from rheostat_backends.pyroscope.sink import Sink

warnings.simplefilter("ignore")
sink = Sink(print)
sink.open()
opened = [os.readlink(f"/dev/fd/{each.fileno()}") for each in sink.sockets]
pid = os.fork()
if pid == 0:
    found = [each for each in os.listdir("/dev/fd") if os.path.exists(f"/dev/fd/{each}")]
    os._exit(any(os.readlink(f"/dev/fd/{each}") in opened for each in found))
print(len(opened), os.waitpid(pid, 0)[1], sink.serves)
sink.close()
"""


def test_a_forked_child_has_none_of_its_sockets(tmp_path: Path) -> None:
    """They are the parent's, whose sink goes on."""
    assert "1 0 True\n" == ended([sys.executable, "-c", FORKS], tmp_path).stdout
