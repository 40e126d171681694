"""GrowthBook: features fetched and streamed from its API (or proxy), evaluated in this process by its SDK."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .source import GrowthBookOptions, GrowthBookSource
else:
    # Not before it is asked for: `source` may be what is being imported, by another thread, which waits for this.
    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import source

        return getattr(source, name)


__all__ = ["GrowthBookOptions", "GrowthBookSource"]
