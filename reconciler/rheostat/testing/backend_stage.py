"""The process in which a backend lives alone: it does what it is told, and reports how that went."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rheostat import Value
from rheostat._contract.text import describe

from .calling_thread import call_apart
from .plugin_under_test import PluginsConfig
from .process_state import differences, process_state
from .stage import Stage


class Player:
    """One backend, and the kit's subclass with its evidence."""

    def __init__(self, stage: Stage, backend: Any, is_profiling: Callable[[], bool], who: str) -> None:
        self._stage = stage
        self._backend = backend
        self._is_profiling = is_profiling
        self._who = who
        self._settings: Mapping[str, Value] = stage.order["settings"]

    def start(self) -> None:
        self._do("start", lambda: self._backend.start(self._settings))

    def stop(self) -> None:
        self._do("stop", self._backend.stop)

    def look(self) -> None:
        self._do("look", self._is_profiling)

    def _do(self, what: str, function: Callable[[], object]) -> None:
        try:
            found = call_apart(function, f"{what}()", self._stage.order["patience"])
        except BaseException as error:
            self._stage.report(who=self._who, did=what, raised=describe(error))
        else:
            self._stage.report(who=self._who, did=what, profiling=found)


def main() -> None:
    stage = Stage.set()
    config = PluginsConfig(stage.order["config"], stage.order["imports"])
    is_profiling = evidence(**stage.order["evidence"])
    before = process_state()
    player = Player(stage, config.backend(), is_profiling, "parent")
    for line in sys.stdin:
        match line.strip():
            case "start":
                player.start()
            case "stop":
                player.stop()
            case "look":
                player.look()
            case "fork":
                stage.fork(lambda: live_as_forked(Player(stage, config.backend(), is_profiling, "forked child")))
            case "account":
                stage.report(who="parent", did="account", changed=differences(before, process_state()))
            case "leave":
                stage.report(who="parent", did="leave")
                return


def live_as_forked(player: Player) -> None:
    """A session of the child's own, from before its start until after its stop."""
    player.look()
    player.start()
    player.look()
    player.stop()
    player.look()


def evidence(file: str, module: str, name: str) -> Callable[[], bool]:
    """The subclass's `is_profiling`, on an object without fixtures."""
    spec = importlib.util.spec_from_file_location(module, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported")
    loaded: Any = importlib.util.module_from_spec(spec)
    sys.modules[module] = loaded
    spec.loader.exec_module(loaded)
    for part in name.split("."):
        loaded = getattr(loaded, part)
    is_profiling: Callable[[], bool] = loaded().is_profiling
    return is_profiling


if __name__ == "__main__":
    main()
