"""Plug-ins that each do one thing wrong, for which a check of the kits is named."""

import inspect
from types import ModuleType
from typing import Any, Final

from contract.wrong import backends, sources


def _in(module: ModuleType) -> list[Any]:
    return [each for _, each in inspect.getmembers(module, inspect.isclass) if hasattr(each, "caught_by")]


SOURCES: Final = _in(sources)
BACKENDS: Final = _in(backends)


def class_name(plugin: Any) -> str:
    """The test class that the kit becomes for it."""
    family = "Source" if plugin in SOURCES else "Backend"
    return f"Test{family}That{plugin.__name__}"
