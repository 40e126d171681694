"""A backend in the hands of a kit: each call from a thread of its own, as Rheostat makes it, and bounded."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self

from rheostat import Health, Value
from rheostat._contract.text import describe

from .calling_thread import call_apart


class BackendUnderTest:
    """One backend; `start` and `stop` have to return within `patience` seconds, `probe` within `prompt`.

    At the end of a `with` block it is stopped, whatever comes of that.
    """

    def __init__(self, build: Callable[[], Any], patience: float, prompt: float) -> None:
        self._patience = patience
        self._prompt = prompt
        self._backend = call_apart(build, "building the backend", patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(AssertionError):
            self.stop()

    def start(self, settings: Mapping[str, Value]) -> object:
        """The result of start(); AssertionError if it raises."""
        return self._call("start()", lambda: self._backend.start(settings), f"it to start with {dict(settings)}")

    def failure(self, settings: Mapping[str, Value]) -> BaseException | None:
        """The exception that start() raises; None if it returns."""
        try:
            call_apart(lambda: self._backend.start(settings), "start()", self._patience)
        except AssertionError:
            raise
        except BaseException as error:
            return error
        return None

    def stop(self) -> None:
        self._call("stop()", self._backend.stop, "it to end the session if there is one, and to return")

    def probe(self) -> Health:
        found = self._call("probe()", self._backend.probe, "a Health", self._prompt)
        assert isinstance(found, Health), f"probe() gave {found!r}; expected a rheostat.Health"
        return found

    def _call(self, what: str, function: Callable[[], Any], expected: str, within: float | None = None) -> Any:
        try:
            return call_apart(function, what, self._patience if within is None else within)
        except AssertionError:
            raise
        # What third-party code raises may be anything.
        except BaseException as error:
            raise AssertionError(f"{what} raised {describe(error)}; expected {expected}") from error
