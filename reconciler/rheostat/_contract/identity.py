"""Who this process is."""

from collections.abc import Mapping
from typing import NamedTuple


class Identity(NamedTuple):
    """Targeting attributes for flag sources, and labels for backends.

    `instance` tells one host or pod from another; `pid` one process from another. A backend labels profiles
    with `pid` only if asked to, because the number of its values is unbounded.
    """

    application: str
    instance: str
    tags: Mapping[str, str]
    pid: int

    def attributes(self, extra: Mapping[str, object]) -> dict[str, object]:
        """The attributes that flags are targeted by: the process's, its tags, and `extra`, the last of which win."""
        own = {"application": self.application, "instance": self.instance, "pid": self.pid}
        return {**own, **self.tags, **extra}


Identity.__module__ = "rheostat.plugins"
