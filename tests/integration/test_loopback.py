"""The port on loopback that takes what a profiler of this process uploads, and nobody else's."""

import gzip
import http.client
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rheostat.plugins import Loopback, Upload
from support.children import PATIENCE, ended


class Opened:
    """A port, what it was given, and how it was answered."""

    def __init__(self, *, answers_first: bool = False) -> None:
        self.delivered: list[bytes] = []
        self.error: Exception | None = None
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.port = Loopback(self._deliver, "rheostat-port", answers_first=answers_first)
        self.address = urlsplit(self.port.open())

    def _deliver(self, upload: Upload) -> None:
        assert "/push" == upload.path
        self.goes_on.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        self.delivered.append(upload.unpacked())

    def post(self, body: bytes | Iterable[bytes], path: str | None = None, **headers: str) -> int:
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
    made.port.close()


def test_a_push_is_delivered_before_it_is_answered(opened: Opened) -> None:
    """Packed or not."""
    assert 200 == opened.post(b"plain")
    assert 200 == opened.post(gzip.compress(b"packed"), **{"Content-Encoding": "gzip"})
    assert [b"plain", b"packed"] == opened.delivered


def test_an_upload_may_come_in_pieces(opened: Opened) -> None:
    """As HTTP has it for one whose length is not known before."""
    assert 200 == opened.post(iter([b"one ", b"two ", bytes(100_000)]))
    assert [b"one two " + bytes(100_000)] == opened.delivered


def test_a_profiler_that_bears_no_wait_is_answered_first() -> None:
    """What it uploads is delivered while it goes on; the end waits for that, for as long as it is told."""
    opened = Opened(answers_first=True)
    opened.goes_on.clear()
    assert 200 == opened.post(b"slow")
    assert (1, []) == (opened.port.taken, opened.delivered)
    opened.port.close(patience=0.05)
    opened.goes_on.set()
    opened.port.close(patience=PATIENCE)
    assert [b"slow"] == opened.delivered


def test_who_does_not_know_the_path_is_turned_away(opened: Opened) -> None:
    """Another process of the host can reach the port, and push nothing."""
    for path in ("", "/guess", opened.address.path[:-1]):
        assert 404 == opened.post(b"foreign", path)
    assert [] == opened.delivered


def test_two_ports_have_two_paths(opened: Opened) -> None:
    """That nobody guesses."""
    other = Opened()
    other.port.close()
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
    """The port goes on to serve."""
    with opened.connect() as connection:
        connection.sendall(sent)
    assert 200 == opened.post(b"kept")


def test_it_ends_though_somebody_is_connected_and_silent(opened: Opened) -> None:
    """Its port and its thread are gone."""
    with opened.connect():
        opened.port.close()
        assert not opened.port.serves
        with pytest.raises(ConnectionRefusedError):
            opened.connect()
    assert "rheostat-port" not in {thread.name for thread in threading.enumerate()}


FORKS = """
import os, warnings
from rheostat.plugins import Loopback

warnings.simplefilter("ignore")
port = Loopback(print, "rheostat-port")
port.open()
opened = [os.readlink(f"/dev/fd/{each.fileno()}") for each in port.sockets]
pid = os.fork()
if pid == 0:
    found = [each for each in os.listdir("/dev/fd") if os.path.exists(f"/dev/fd/{each}")]
    os._exit(any(os.readlink(f"/dev/fd/{each}") in opened for each in found))
print(len(opened), os.waitpid(pid, 0)[1], port.serves)
port.close()
"""


def test_a_forked_child_has_none_of_its_sockets(tmp_path: Path) -> None:
    """They are the parent's, whose port goes on."""
    assert "1 0 True\n" == ended([sys.executable, "-c", FORKS], tmp_path).stdout
