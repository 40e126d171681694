"""The naive polling thread: what people write today to switch the agent with feature flags."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pyroscope
import yaml

USUAL_INTERVAL: Final = 30.0
"""Seconds."""


class NaiveThread(threading.Thread):
    """Reads the flags every `interval` seconds, and starts, restarts or stops the agent where they have changed.

    They are in a file, or wherever the function gets them from.
    """

    def __init__(
        self, flags: Path | Callable[[], Mapping[str, Any]], address: str, interval: float = USUAL_INTERVAL
    ) -> None:
        super().__init__(name="naive", daemon=True)
        self._flags = flags
        self._address = address
        self._interval = interval
        self._running: dict[str, Any] | None = None

    def run(self) -> None:
        while True:
            self.poll()
            time.sleep(self._interval)

    def poll(self) -> None:
        wanted = self._wanted()
        if wanted == self._running:
            return
        if self._running is not None:
            pyroscope.shutdown()
        if wanted is not None:
            # It returns False if it could not start: nobody looks.
            pyroscope.configure(application_name="bench", server_address=self._address, upload_interval=1, **wanted)
        self._running = wanted

    def _wanted(self) -> dict[str, Any] | None:
        flags = yaml.safe_load(self._flags.read_text()) if isinstance(self._flags, Path) else self._flags()
        if not flags.get("profiling_enabled"):
            return None
        mode = flags.get("profiling_mode", "gil")
        return {
            "sample_rate": flags.get("profiling_sample_rate", 20),
            "oncpu": mode != "wall",
            "gil_only": mode == "gil",
        }
