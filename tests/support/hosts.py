"""Telling an application that Rheostat lives in what to do, and the flag servers that it lives with."""

import json
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

from .children import PATIENCE, Child
from .vendors.growthbook import GrowthBookServer
from .vendors.launchdarkly import LaunchDarklyServer, flag_of, ruled_flag

_APPLICATION: Final = Path(__file__).with_name("application.py")

KINDS: Final = ("growthbook", "launchdarkly", "openfeature")

Server = GrowthBookServer | LaunchDarklyServer

OUR_KEY: Final = "sdk-rheostat"
THEIR_KEY: Final = "sdk-application"

CONFIG: Final = """\
version: 1
application: shop
source: {source}
backend: {{kind: noop}}
enabled: {{flag: profiling_enabled, default: false}}
settings:
  rate: {{flag: profiling_rate, default: 1}}
policy: {{cooldown: 0s}}
"""

SOURCES: Final = {
    "growthbook": "{{kind: growthbook, api_host: '{url}', client_key: {key}, timeout: 1s}}",
    "launchdarkly": "{{kind: launchdarkly, relay: '{url}', sdk_key: {key}, start_wait: 1s}}",
    "openfeature": "{{kind: openfeature, provider: 'remote_provider:make', poll_interval: 100ms, start_wait: 1s}}",
}


class Told:
    """A process that does what it is told."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._socket, _ = listening.accept()
        self._socket.settimeout(PATIENCE)
        self._answers = self._socket.makefile("r", encoding="utf-8")
        self._forks: list[Told] = []
        self.left_at = 0.0
        """When it began to leave, in monotonic seconds."""

    def run(self, code: str) -> Any:
        """Run this in its module `app`, in its main thread; gives the value if it is an expression."""
        return self._order(do="run", code=code)

    def fork(self) -> tuple[int, "Told"]:
        """The child's process id, and the child."""
        pid = self._order(do="fork")
        self._forks.append(Told(self._listening))
        return pid, self._forks[-1]

    def leave(self, code: int = 0) -> None:
        """Come to the end of its main thread."""
        self.left_at = self._order(do="leave", code=code)
        self.close()

    def vanish(self, code: int = 0) -> None:
        """Leave by `os._exit`."""
        self._tell(do="vanish", code=code)
        self.close()

    def close(self) -> None:
        for fork in self._forks:
            fork.close()
        self._answers.close()
        self._socket.close()

    def _tell(self, **order: object) -> None:
        self._socket.sendall(json.dumps(order).encode() + b"\n")

    def _order(self, **order: object) -> Any:
        self._tell(**order)
        line = self._answers.readline()
        assert line, "the process has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["value"]


class Host(Told):
    """The application; leaving the block ends it with all that is below it."""

    def __init__(self, folder: Path) -> None:
        with ExitStack() as stack:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listening.settimeout(PATIENCE)
            child = Child([sys.executable, _APPLICATION, str(listening.getsockname()[1])], folder)
            self._child = stack.enter_context(child)
            super().__init__(listening)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._stack.close()

    def ended(self) -> tuple[int, list[str]]:
        """Its exit code, and all that it has written to stderr."""
        code = self._child.process.wait(PATIENCE)
        return code, self._child.err.rest()


def server_for(kind: str, key: str = OUR_KEY) -> Server:
    return LaunchDarklyServer(key) if kind == "launchdarkly" else GrowthBookServer(key)


def serve_rate(server: Server, rate: int, **others: object) -> None:
    """Switch profiling on, at this rate."""
    server.set_flags({"profiling_enabled": True, "profiling_rate": rate, **others})


def serve_rate_to(server: Server, pid: int, rate: int, otherwise: int, kind: str) -> None:
    """Give one process another rate than all others."""
    if isinstance(server, LaunchDarklyServer):
        server.set_raw("profiling_enabled", flag_of(True), push=False)
        server.set_raw("profiling_rate", ruled_flag("pid", [pid], rate, otherwise))
        return
    value: dict[str, object] = {
        "defaultValue": otherwise,
        "rules": [{"condition": {"pid": pid}, "force": rate}],
    }
    if kind == "openfeature":
        value = {"defaultValue": {"of": {str(pid): rate}, "else": otherwise}}
    server.set_features({"profiling_enabled": {"defaultValue": True}, "profiling_rate": value})


def written_config(folder: Path, source: str) -> str:
    """The path of a configuration with this source."""
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(source=source))
    return str(path)


def config_for(kind: str, server: Server, folder: Path) -> str:
    return written_config(folder, SOURCES[kind].format(url=server.url, key=OUR_KEY))


def begin(host: Told, kind: str, server: Server, folder: Path) -> None:
    """Let the host start Rheostat."""
    if kind == "openfeature":
        assert isinstance(server, GrowthBookServer)
        host.run(f"import remote_provider; remote_provider.url = {server.url + server.features_path!r}")
    host.run(f"start({config_for(kind, server, folder)!r})")
