"""What Rheostat is tested with, for those who write flag sources and backends of their own.

from rheostat.testing import FlagSourceContract

Needs ``pip install 'rheostat[testing]'``. Nothing here is imported before it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backend_contract import BackendContract
    from .flagsource_contract import FlagSourceContract

__all__ = ["BackendContract", "FlagSourceContract"]

_WHERE = {
    "BackendContract": ".backend_contract",
    "FlagSourceContract": ".flagsource_contract",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name], __name__), name)
