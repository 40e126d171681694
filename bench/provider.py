"""OpenFeature providers of the application's."""

import os
import threading
import time
import urllib.request
from typing import Any, Final, NoReturn, Self

from openfeature import api
from openfeature.event import EventDetails, ProviderEvent, ProviderEventDetails
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from .flags import OFF, OTHERS, Flags

_PATIENCE: Final = 5.0


class Provider(InMemoryProvider):
    """The SDK's own, whose flags the application replaces."""

    url = ""

    @classmethod
    def set(cls) -> Self:
        """One that the application has set."""
        made = cls(_flags(OFF))
        api.set_provider(made)
        return made

    def say(self, flags: Flags) -> float:
        new = _flags(flags)
        changed = [name for name, flag in new.items() if flag != self._flags.get(name)]
        at = time.perf_counter()
        self._flags = new
        self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=changed))
        return at

    def wait_for_streams(self, number: int) -> None:
        """There are none."""


def fill_pool() -> None:
    """Make the SDK begin all the threads that it calls event handlers in: it begins them one by one, at any time."""
    most = min(32, (os.cpu_count() or 1) + 4)
    meeting = threading.Barrier(most + 1)

    def meet(_: EventDetails) -> None:
        meeting.wait(_PATIENCE)

    # Called at once, since a provider is ready; none of them returns before all are called.
    for _ in range(most):
        api.add_handler(ProviderEvent.PROVIDER_READY, meet)
    meeting.wait(_PATIENCE)
    for _ in range(most):
        api.remove_handler(ProviderEvent.PROVIDER_READY, meet)


class HungProvider(InMemoryProvider):
    """Asks a server that never answers, for each evaluation, and has all the time in the world."""

    @classmethod
    def set(cls, url: str) -> None:
        made = cls({})
        made._url = url
        api.set_provider(made)

    _url = ""

    def resolve_boolean_details(self, *_: Any, **__: Any) -> NoReturn:
        urllib.request.urlopen(self._url)
        raise AssertionError("it answered")


def _flags(values: Flags) -> dict[str, InMemoryFlag[Any]]:
    return {key: InMemoryFlag("only", {"only": value}) for key, value in {**OTHERS, **values}.items()}
