"""The flags that are changed at a product, and those that it has beside them."""

from collections.abc import Mapping
from typing import Any, Final

Flags = Mapping[str, Any]

OFF: Final[Flags] = {"profiling_enabled": False, "profiling_sample_rate": 250, "profiling_mode": "gil"}
ON: Final[Flags] = {**OFF, "profiling_enabled": True}
OTHERS: Final[Flags] = {f"other_{number}": False for number in range(100)}
"""Profiling is hardly all that a product has flags for."""
