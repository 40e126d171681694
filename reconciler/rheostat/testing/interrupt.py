"""A Ctrl-C that hits a plug-in at work."""

import ast
import inspect
import itertools
import sys
from collections.abc import Mapping
from types import FrameType, ModuleType
from typing import Any

from rheostat import Value


class Interrupting(Mapping[str, Value]):
    """Settings whose reader is hit by a Ctrl-C."""

    interrupted = False

    def _interrupt(self, *_: object) -> Any:
        self.interrupted = True
        raise KeyboardInterrupt

    __getitem__ = __iter__ = __len__ = __or__ = __ror__ = _interrupt


def swallowed_at(plugin: Any, wanted: Mapping[str, type]) -> str:
    """Where read() swallowed an interrupt, if it did: one came at each line of the source's module that it runs."""
    module = sys.modules[type(plugin).__module__]
    cleanup = _cleanup_lines(module)
    for number in itertools.count():
        hit = _Interrupt(str(module.__file__), cleanup, number)
        before = sys.gettrace()
        sys.settrace(hit)
        try:
            plugin.read(wanted)
        except KeyboardInterrupt:
            continue
        except Exception:
            return hit.place
        finally:
            sys.settrace(before)
        return hit.place
    raise AssertionError("there is an end of lines")


def _cleanup_lines(module: ModuleType) -> frozenset[int]:
    """Lines where an interrupt does harm that nobody can prevent: a lock that is not given back, say."""
    try:
        code = inspect.getsource(module)
    except OSError:
        return frozenset()
    bodies = [node.finalbody for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Try) and node.finalbody]
    return frozenset(line for body in bodies for line in range(body[0].lineno, (body[-1].end_lineno or 0) + 1))


class _Interrupt:
    """A trace function that is a Ctrl-C at one of the lines of a file, the first time that a call comes to it."""

    def __init__(self, file: str, cleanup: frozenset[int], number: int) -> None:
        self._file = file
        self._cleanup = cleanup
        self._left = number
        self._seen: set[tuple[FrameType, int]] = set()
        self.place = ""

    def __call__(self, frame: FrameType, event: str, _: object) -> "_Interrupt":
        # At the end of its block a `with` statement comes by again.
        at = (frame, frame.f_lineno)
        is_new = event == "line" and frame.f_code.co_filename == self._file and at not in self._seen
        if is_new and frame.f_lineno not in self._cleanup:
            self._seen.add(at)
            self._left -= 1
            if self._left < 0 and not self.place:
                self.place = f"{self._file}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self
