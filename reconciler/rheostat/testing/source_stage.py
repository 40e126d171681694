"""The process in which a flag source lives alone: it reports each new answer, and does what it is told."""

import select
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from rheostat.plugins import SourceUnavailable

from .calling_thread import CallingThread
from .plugin_under_test import PluginsConfig
from .process_state import differences, process_state
from .stage import Stage

_LOOK_AGAIN: Final = 0.02


class Player:
    """One open source, that reports what is new."""

    def __init__(self, stage: Stage, config: PluginsConfig, who: str) -> None:
        self._stage = stage
        self._who = who
        self._wanted = dict.fromkeys(stage.order["wanted"], object)
        self._thread = CallingThread()
        self._source = self._call("building it", config.source)
        self._call("open()", lambda: self._source.open(lambda: None))
        self._last: object = None
        self.known = 0
        """How many different answers had flags."""

    def look(self) -> None:
        facts: dict[str, object]
        try:
            found = self._call("read()", lambda: self._source.read(self._wanted))
            facts = {"values": dict(found.values)} if found.stale_since is None else {"reason": "stale"}
        except SourceUnavailable as unavailable:
            facts = {"reason": unavailable.reason}
        if facts != self._last:
            self._last = facts
            self.known += "values" in facts
            self._stage.report(who=self._who, **facts)

    def close(self) -> None:
        self._call("close()", self._source.close)

    def _call(self, what: str, function: Callable[[], Any]) -> Any:
        return self._thread.call(function, what, self._stage.order["patience"])


def main() -> None:
    stage = Stage.set()
    config = PluginsConfig(stage.order["config"], stage.order["imports"])
    before = process_state()
    player = Player(stage, config, "parent")
    while True:
        player.look()
        if not select.select([sys.stdin], [], [], _LOOK_AGAIN)[0]:
            continue
        match sys.stdin.readline().strip():
            case "fork":
                stage.fork(lambda: live_as_forked(stage, config))
            case "account":
                player.close()
                stage.report(who="parent", changed=differences(before, process_state()))
            case _:
                stage.report(who="parent", leaves=True)
                return


def live_as_forked(stage: Stage, config: PluginsConfig) -> None:
    """A source of the child's own, until it has noticed a change."""
    player = Player(stage, config, "forked child")
    deadline = time.monotonic() + stage.order["patience"]
    while player.known < 2 and time.monotonic() < deadline:
        player.look()
        time.sleep(_LOOK_AGAIN)
    player.close()
    stage.report(who="forked child", closed=True)


if __name__ == "__main__":
    main()
