"""Flags from a document by HTTP, from real servers on loopback."""

import base64
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from rheostat.plugins import Duration, FilePath, Identity, InvalidOptions, Reading, Secret, SourceUnavailable, Url
from rheostat.testing import FlagSourceContract
from rheostat_flagsources.http.source import HttpOptions, HttpSource
from support.children import Child
from support.vendors.http_document import DocumentServer, Handler

PATIENCE = 20.0
IDENTITY = Identity("shop", "host-1", {}, 1)


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers on loopback are asked without the proxy that the environment may have."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class TestHttp(FlagSourceContract):
    """The contract of any source, with a server that is down in the worst way: it takes requests, and is silent."""

    @pytest.fixture(autouse=True)
    def serving(self) -> Iterator[None]:
        with DocumentServer() as self.server:
            yield

    def section(self) -> str:
        return f"{{kind: http, url: '{self.server.url}', poll_interval: 20ms, timeout: 500ms}}"

    def say(self, flags: Mapping[str, object]) -> None:
        self.server.say(flags)

    def break_down(self) -> None:
        self.server.misbehave(self.server.hang)

    def mend(self) -> None:
        self.server.mend()


class Watched:
    """An open source, and a way to wait for what it says."""

    def __init__(self, url: str, **options: Any) -> None:
        made = HttpOptions(url=Url(url), **{"poll_interval": Duration(0.02), "timeout": Duration(0.5), **options})
        self.source = HttpSource(made, IDENTITY)
        self._called = threading.Event()

    def __enter__(self) -> Self:
        self.source.open(self._called.set)
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()

    def until(self, wanted: str) -> Reading | str:
        """Its word, once it has these words in it; a trouble is a text."""
        while wanted not in str(said := self._now()):
            assert self._called.wait(PATIENCE), said
            self._called.clear()
        return said

    def _now(self) -> Reading | str:
        try:
            return self.source.read({})
        except SourceUnavailable as unavailable:
            return unavailable.reason


@pytest.fixture
def server() -> Iterator[DocumentServer]:
    with DocumentServer() as opened:
        opened.say({"on": True, "rate": 700097})
        yield opened


@pytest.mark.parametrize("dated", [False, True])
def test_a_version_that_is_known_is_not_sent_again(server: DocumentServer, dated: bool) -> None:
    """By its tag, or by its date; what comes packed is unpacked."""
    server.dated = dated
    with Watched(server.url) as watched:
        watched.until("700097")
        server.say({"on": True, "rate": 700098})
        watched.until("700098")
    asked_by = "If-Modified-Since" if dated else "If-None-Match"
    assert server.asked[0][1][asked_by] is None
    assert any(headers[asked_by] for _, headers in server.asked[1:])


def test_a_document_may_be_yaml_and_have_the_flags_within(server: DocumentServer) -> None:
    """The path leads to them; the reason is the line."""
    server.give_text("data:\n  flags:\n    on: true\n    rate: 700097\n    list: [1]\n  other: 5\n")
    with Watched(server.url, path="data.flags") as watched:
        said = watched.until("700097")
    assert isinstance(said, Reading)
    assert {"on": True, "rate": 700097} == {flag: said.values[flag] for flag in ("on", "rate")}
    assert {"on": "line 3", "rate": "line 4", "list": "line 5"} == said.reasons
    assert ["list"] == list(said.errors)
    for path, expected in (("data.missing", "found nothing at data.missing"), ("data.other", "data.other: found '5'")):
        with Watched(server.url, path=path) as watched:
            watched.until(expected)


def test_a_server_that_knows_to_wait_answers_at_once_when_something_changes(server: DocumentServer) -> None:
    """As Consul does: the index of what is known is sent, and the answer is held back."""
    server.index = 7
    with Watched(server.url + "?raw=1", wait=Duration(5.0)) as watched:
        watched.until("700097")
        server.say({"on": True, "rate": 700098})
        watched.until("700098")
    paths = [path for path, _ in server.asked]
    assert "/flags?raw=1" == paths[0]
    assert "/flags?raw=1&wait=5s&index=7" in paths


FAULTS = {
    "hang": "no whole answer in time, timeout is 0.5 s",
    "drip": "no whole answer in time, timeout is 0.5 s",
    "reset": "Connection reset by peer",
    "cut": "the connection broke (ProtocolError)",
    "bomb": "found an answer of more than 64 KiB",
    "large": "found an answer of more than 64 KiB",
}
STATUSES = {401: "HTTP 401: are the credentials right?", 404: "HTTP 404: is url right?", 500: "HTTP 500"}
BODIES = {
    b"\xff\xfe\x00": "expected",
    b"": "expected a mapping",
    b"[1]": "expected a mapping",
    b'"on"': "expected a mapping",
}


@pytest.mark.parametrize("fault", [*FAULTS, *STATUSES, *BODIES], ids=str)
def test_whatever_the_server_does_is_said_and_overcome(server: DocumentServer, fault: Any) -> None:
    """In words that are the same each time, with the address and without anything secret."""
    expected = FAULTS.get(fault) or STATUSES.get(fault) or BODIES[fault]

    def answer(handler: Handler) -> None:
        if fault in FAULTS:
            getattr(server, fault)(handler)
        elif fault in STATUSES:
            handler.give(fault, b"secret of the server's")
        else:
            handler.give(200, fault, ETag='"1"')

    with Watched(server.url) as watched:
        watched.until("700097")
        server.misbehave(answer)
        said = watched.until(expected)
        assert str(said).startswith(f"{server.url}:")
        assert "secret" not in str(said)
        server.mend()
        server.say({"on": True, "rate": 700098})
        watched.until("700098")


def test_credentials_go_nowhere_else_and_are_never_shown(server: DocumentServer) -> None:
    """Neither to where a redirect leads, nor into a reason; those of the address are sent as a header."""
    with DocumentServer() as elsewhere:
        address = server.url.replace("://", "://user:pass%21word@")
        with Watched(address, headers={"X-Token": Secret("s3cr3t-token")}) as watched:
            watched.until("700097")
            server.misbehave(lambda handler: handler.give(302, Location=elsewhere.url))
            said = watched.until("HTTP 302: the flags are elsewhere")
        assert [] == elsewhere.asked
    assert not [each for each in ("pass", "word", "s3cr3t") if each in str(said)]
    headers = server.asked[0][1]
    assert "s3cr3t-token" == headers["X-Token"]
    assert f"Basic {base64.b64encode(b'user:pass!word').decode()}" == headers["Authorization"]
    assert "@" not in server.asked[0][0]


def test_a_server_that_is_gone_is_asked_less_and_less_often_and_found_again() -> None:
    """By its address: it comes back there."""
    with DocumentServer() as server:
        port = server.server_port
        server.say({"rate": 1})
        watched = Watched(server.url)
        watched.source.open(watched._called.set)
        watched.until("'rate': 1")
    watched.until("Connection refused")
    with DocumentServer(port) as server:
        server.say({"rate": 2})
        watched.until("'rate': 2")
    watched.source.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate")
def test_certificates_are_verified_and_may_be_ones_own(tmp_path: Path) -> None:
    """A server whose certificate nobody has signed is not believed; with its own as the authority it is."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run([*made, *names, *files], check=True, capture_output=True, timeout=PATIENCE)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    tls.load_verify_locations(cert)
    tls.verify_mode = ssl.CERT_REQUIRED
    with DocumentServer(tls=tls) as server:
        server.say({"rate": 700097})
        with Watched(server.url) as watched:
            watched.until("certificate")
        own = {"ca_file": FilePath(str(cert)), "client_cert_file": FilePath(str(cert))}
        with Watched(server.url, **own, client_key_file=FilePath(str(key))) as watched:
            watched.until("700097")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a key")
def test_a_key_that_needs_a_passphrase_is_said(tmp_path: Path) -> None:
    """Nobody is asked for it at the service's terminal, who would wait for the answer."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-passout",
        "pass:s3cr3t",
    ]
    files = ["-subj", "/CN=shop", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*made, *files], check=True, capture_output=True, timeout=PATIENCE)
    asked = f"""
from rheostat.plugins import FilePath, Identity, SourceUnavailable, Url
from rheostat_flagsources.http.source import HttpOptions, HttpSource

options = HttpOptions(
    url=Url("https://127.0.0.1:1"), client_cert_file=FilePath({str(cert)!r}), client_key_file=FilePath({str(key)!r})
)
try:
    HttpSource(options, Identity("shop", "host-1", {{}}, 1)).ask()
except SourceUnavailable as unavailable:
    print(unavailable.reason)
"""
    # A terminal of its own: a program that wants to ask does so there.
    terminal, of_the_service = os.openpty()
    with Child(
        [sys.executable, "-c", TAKES_TERMINAL + asked], tmp_path, {"TERMINAL": os.ttyname(of_the_service)}
    ) as it:
        said = it.out.next()
    os.set_blocking(terminal, False)
    with pytest.raises(BlockingIOError):
        os.read(terminal, 1000)
    os.close(terminal)
    os.close(of_the_service)
    assert "the certificate files cannot be used" in str(said)
    assert "a key that needs no passphrase" in str(said)


TAKES_TERMINAL = """
import fcntl, os, termios
fcntl.ioctl(os.open(os.environ["TERMINAL"], os.O_RDWR), termios.TIOCSCTTY, 0)
"""


@pytest.mark.parametrize(
    ("options", "blamed"),
    [
        ({"url": Url("flags.example.com")}, "url"),
        ({"url": Url("ftp://x/y")}, "url"),
        ({"url": Url("http://x/a b")}, "url"),
        ({"headers": {"a b": Secret("x")}}, "headers"),
        ({"headers": {"a": Secret("x\r\ny: z")}}, "headers"),
        ({"path": "a..b"}, "path"),
        ({"poll_interval": Duration(0.0)}, "poll_interval"),
        ({"timeout": Duration(0.0)}, "timeout"),
        ({"wait": Duration(601.0)}, "wait"),
        ({"client_key_file": FilePath("k")}, "client_key_file"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, Any], blamed: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        HttpOptions(**{"url": Url("http://127.0.0.1/flags"), **options})
    assert {blamed} == caught.value.expected.keys()
