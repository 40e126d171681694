"""The means of measurement of both sides: a configuration, a file of flags, servers on loopback, a log."""

import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .child import environment

OFF: Final = "profiling_enabled: false\n"
ON: Final = "profiling_enabled: true\nprofiling_sample_rate: 250\nprofiling_mode: gil\n"
RETUNED: Final = "profiling_enabled: true\nprofiling_sample_rate: 240\nprofiling_mode: gil\n"
SLOW: Final = "profiling_enabled: true\nprofiling_sample_rate: 20\nprofiling_mode: gil\n"

NOBODY: Final = "http://127.0.0.1:9"
"""For sessions that never push."""

_CONFIG: Final = """\
version: 1
application: bench
source: {source}
backend: {{kind: pyroscope, server_address: "{address}"}}
enabled: {{flag: profiling_enabled, default: false}}
settings:
  sample_rate: {{flag: profiling_sample_rate, default: 20, clamp: {{min: 1, max: 250}}}}
  mode: {{flag: profiling_mode, default: gil, clamp: {{choices: [gil, cpu, wall], otherwise: default}}}}
  upload_interval: 1
policy: {{cooldown: 0s, exit_deadline: 2s}}
"""

_YAML: Final = "{{kind: yaml, path: flags.yaml, poll_interval: {poll_interval}}}"

_RECEIVER: Final = """\
import sys
from rheostat.receive.receiver import Receiver

with Receiver() as receiver:
    print(receiver.address, flush=True)
    sys.stdin.read()
"""


class Stage:
    """A folder with a configuration and its flags. `poll_interval` is a duration as the configuration has it.

    With a `source`, the section as YAML, the flags come from there instead of the file.
    """

    def __init__(self, folder: Path, address: str = NOBODY, poll_interval: str = "1s", source: str = "") -> None:
        folder.mkdir(exist_ok=True)
        self.config = folder / "config.yaml"
        self.flags = folder / "flags.yaml"
        section = source or _YAML.format(poll_interval=poll_interval)
        self.config.write_text(_CONFIG.format(address=address, source=section))
        self.say(OFF)

    def say(self, flags: str) -> None:
        """Replace the flags at once, as editors and ConfigMaps do."""
        written = self.flags.with_suffix(".new")
        written.write_text(flags)
        os.replace(written, self.flags)


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary one."""
    with tempfile.TemporaryDirectory(prefix="rheostat-bench-") as made:
        yield Path(made)


@contextmanager
def receiver() -> Iterator[str]:
    """The address of a server that takes what is pushed, in a process of its own: it must not hold our GIL."""
    command = [sys.executable, "-c", _RECEIVER]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def hung_server() -> Iterator[str]:
    """The address of a server that accepts, which the kernel does for it, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def log_to_nowhere() -> None:
    """A service's usual log: INFO and above, formatted and written."""
    logging.basicConfig(level=logging.INFO, filename=os.devnull)
