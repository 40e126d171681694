"""A real Redis server on loopback, and a wire to it on which anything may happen."""

import json
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import pytest
import redis

from support.children import program

PATIENCE: Final = 20.0
"""Seconds after which a wait has failed, however slow the machine."""

ADMIN: Final = "admin"
"""A user who may do anything, whatever becomes of the default one."""

NOTICES: Final = "Kg$hxe"
"""Those of keys that are enough, as the page says."""

_PROGRAM: Final = program("redis-server")
_COMMAND: Final = re.compile(rb"\*\d+\r\n")


class RedisServer:
    """Runs from the entry to the exit of a `with` block, keeps nothing on disk, and is the same one after a pause.

    `client` is one of the test's own, whose connection is not subject to what the server does to others.
    """

    def __init__(self, notices: str = NOTICES, options: Mapping[str, str] | None = None, *, tls: bool = False) -> None:
        """`notices` are those of keys that it gives, `options` are lines of its configuration."""
        self._tls = tls
        self._options = options or {}
        self._notices = notices
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if _PROGRAM is None:
            pytest.skip("redis-server is not installed here")
        self._folder = Path(tempfile.mkdtemp(prefix="rheostat-redis-"))
        self.socket = self._folder / "redis.sock"
        self.port = _free_port()
        self.client = self.another_client()
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.stop()
        shutil.rmtree(self._folder)

    @property
    def url(self) -> str:
        return f"redis{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """At the same port, with nothing in it, unless it runs."""
        if self._process is not None:
            return
        ports = {"port": "0" if self._tls else str(self.port), "tls-port": str(self.port) if self._tls else "0"}
        places = {**ports, "bind": "127.0.0.1", "unixsocket": str(self.socket), "dir": str(self._folder)}
        keeps = {"save": '""', "notify-keyspace-events": f'"{self._notices}"'}
        users = [f"user {ADMIN} on >{ADMIN} ~* &* +@all", "user default on nopass ~* &* +@all"]
        config = [f"{name} {value}" for name, value in {**places, **keeps, **self._options}.items()] + users
        (self._folder / "redis.conf").write_text("\n".join(config))
        with (self._folder / "log").open("ab") as log:
            command = [str(_PROGRAM), str(self._folder / "redis.conf")]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._until_answers()

    def stop(self) -> None:
        """Whoever is connected is dropped, and nobody listens any more."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None
            self.socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        """It takes connections, as the kernel does that for it, and is silent."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def say(self, flags: Mapping[str, object], *, prefix: str = "flags:", key: str = "") -> None:
        """Let it have exactly these flags: as keys with the prefix, or as the fields of the hash at `key`."""
        writes = self.client.pipeline()
        for old in [key] if key else [*self.client.scan_iter(f"{prefix}*")]:
            writes.delete(old)
        for flag, value in flags.items():
            if key:
                writes.hset(key, flag, text_of(value))
            elif isinstance(value, list):
                writes.rpush(prefix + flag, *map(text_of, value))
            elif isinstance(value, dict):
                writes.hset(prefix + flag, mapping={name: text_of(each) for name, each in value.items()})
            else:
                writes.set(prefix + flag, text_of(value))
        writes.execute()

    def another_client(self) -> redis.Redis:
        """One that may do anything."""
        return redis.Redis(unix_socket_path=str(self.socket), username=ADMIN, password=ADMIN)

    def guests(self) -> list[dict[str, str]]:
        """Who is connected beside the test itself."""
        return [each for each in self.client.client_list() if each["user"] != ADMIN]

    def drop_guests(self) -> None:
        """End their connections; they may come back."""
        for each in self.guests():
            self.client.client_kill_filter(_id=each["id"])

    def calls(self, command: str) -> int:
        """How often it was asked for this."""
        stats = self.client.info("commandstats").get(f"cmdstat_{command}", {})
        return int(stats.get("calls", 0))

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _until_answers(self) -> None:
        def answers() -> bool:
            assert self._process is not None
            code = self._process.poll()
            assert code is None, (self._folder / "log").read_text()
            # By hand: some versions of the client leave a socket open that finds nobody.
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(str(self.socket)) == 0

        until(answers)


Fault = Callable[["Wire", socket.socket, bytes], None]
"""What is done to a client, over its connection, when it has sent something."""


class Wire:
    """A port behind which the server is; while there is a fault, nothing of the server's comes through."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._fault: Fault | None = None
        self._only: Callable[[bytes], bool] = lambda _: True
        self.calm = threading.Event()
        """There is no fault."""
        self._is_closed = False
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self.calm.set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._begin(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed = True
        self.mend()
        for each in [self._listening, *self._open]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self._listening.close()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listening.getsockname()[1]}"

    def misbehave(self, fault: Fault, only: Callable[[bytes], bool] = lambda _: True) -> None:
        """From now on, to those who send something of which `only` holds."""
        self._only = only
        self.calm.clear()
        self._fault = fault

    def mend(self) -> None:
        self._fault = None
        self.calm.set()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self._begin(lambda client=client: self._serve(client))

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server.port)) as server:
            self._open |= {client, server}
            with suppress(OSError):
                self._carry(client, server)
            self._open -= {client, server}

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        is_struck = False
        while True:
            ready, _, _ = select.select([client, server], [], [])
            if client in ready:
                data = client.recv(65536)
                if not data:
                    return
                fault = self._fault
                is_struck = fault is not None and (is_struck or self._only(data))
                if is_struck and fault is not None:
                    fault(self, client, data)
                    return
                server.sendall(data)
            if server in ready:
                data = server.recv(65536)
                if not data:
                    return
                client.sendall(data)

    def _begin(self, function: Callable[[], None]) -> None:
        thread = threading.Thread(target=function, name="redis-wire", daemon=True)
        self._threads.append(thread)
        thread.start()


def hang(wire: Wire, client: socket.socket, data: bytes) -> None:
    """No answer until it is mended."""
    wire.calm.wait(PATIENCE)


def cut(wire: Wire, client: socket.socket, data: bytes) -> None:
    """The end in the midst of an answer."""
    client.sendall(b"$1000\r\ntr")


def reset(wire: Wire, client: socket.socket, data: bytes) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def says(*answers: bytes) -> Fault:
    """These bytes, and nothing more."""

    def say(wire: Wire, client: socket.socket, data: bytes) -> None:
        client.sendall(b"".join(answers))
        wire.calm.wait(PATIENCE)

    return say


def refuses(error: str) -> Fault:
    """The error for each command."""

    def refuse(wire: Wire, client: socket.socket, data: bytes) -> None:
        while data:
            client.sendall(f"-{error}\r\n".encode() * len(_COMMAND.findall(data)))
            data = client.recv(65536)

    return refuse


def drip(wire: Wire, client: socket.socket, data: bytes) -> None:
    """An answer that comes bit by bit, and has no end until it is mended."""
    client.sendall(b"$100000\r\n")
    while not wire.calm.wait(0.02):
        client.sendall(b"1")


def flood(wire: Wire, client: socket.socket, data: bytes) -> None:
    """An answer of a gigabyte, as much of it as is taken."""
    client.sendall(b"$1000000000\r\n")
    while not wire.calm.is_set():
        client.sendall(b"1" * 65536)


def text_of(value: object) -> str:
    """The text that stands for a flag's value."""
    return value if isinstance(value, str) else json.dumps(value)


def until(condition: Callable[[], object]) -> None:
    """Wait until this holds: what does not say so has to be tried."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.005)


def certificates(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run([*made, *names, *files], check=True, capture_output=True, timeout=PATIENCE)
    return cert, key


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
