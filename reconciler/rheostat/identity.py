"""Who this process is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Targeting attributes for flag sources, and labels for backends.

    `instance` tells one host or pod from another; `pid` one process from another. A backend labels profiles
    with `pid` only if asked to, because the number of its values is unbounded.
    """

    application: str
    instance: str
    pid: int
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
