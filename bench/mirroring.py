"""From a flip at the flag product to a process that reads it from the file of `rheostat mirror`.

The product's server, the mirror and the reader are three processes. The reader looks at the file every 200 ms; the
clock stops when its reading shows the flip. It is held against a look of the reader itself, and 50 ms for the mirror.
"""

import math
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from rheostat._config.config import load_config
from rheostat.plugins import SourceUnavailable

from .child import environment, run
from .flags import OFF, ON, Flags
from .naive import USUAL_INTERVAL
from .products import GROWTHBOOK, leaving_at_once, product, section
from .row import Row, show
from .stage import Stage, folder

_MOST: Final = 0.95
_POLL: Final = 0.2
_MIRROR: Final = 0.05
"""Seconds that the mirror may add."""
_PATIENCE: Final = 10.0


def rows(quick: bool) -> list[Row]:
    with folder() as where:
        seconds = sorted(run(measure, where / "mirrored", 10 if quick else 30))
    found = seconds[math.ceil(_MOST * len(seconds)) - 1]
    return [
        Row.of(
            f"flip to a reader of the mirror's file, GrowthBook, 95th percentile of {len(seconds)}",
            found * 1000,
            _MOST * USUAL_INTERVAL * 1000,
            limit=(_POLL + _MIRROR) * 1000,
            unit="ms",
            note=f"it looks every {_POLL * 1000:.0f} ms; median {show(statistics.median(seconds) * 1000, 'ms')}; the "
            "naive thread's figure is computed from its usual poll",
        )
    ]


def measure(where: Path, flips: int) -> list[float]:
    with leaving_at_once(), product(GROWTHBOOK) as flags:
        stage = Stage(where, source=section(GROWTHBOOK, flags.url))
        mirrored = where / "mirrored.yaml"
        command = [sys.executable, "-m", "rheostat", "mirror", "--config", str(stage.config), "--to", str(mirrored)]
        with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as mirror:
            try:
                flags.wait_for_streams(1)
                reader = Stage(where / "reader", source=f"{{kind: yaml, path: {mirrored}, poll_interval: 200ms}}")
                wiring = load_config(reader.config).wire()
                source = wiring.sources[""].build(load_config(reader.config).identity())
                chance = random.Random(0)

                def shown() -> Flags | None:
                    try:
                        return dict(source.read(wiring.rules.wanted).values)
                    except SourceUnavailable:
                        return None

                seconds = []
                for wished in [ON, OFF] * (flips // 2):
                    time.sleep(chance.uniform(0.3, 0.6))
                    at = flags.say(wished)
                    while shown() != wished:
                        if time.perf_counter() - at > _PATIENCE:
                            raise TimeoutError(f"the file shows {shown()}, not {wished}")
                        time.sleep(source.poll_interval or _POLL)
                    seconds.append(time.perf_counter() - at)
                return seconds
            finally:
                mirror.terminate()
