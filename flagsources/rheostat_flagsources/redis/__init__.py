"""Redis: flags as keys or as the fields of a hash, polled, and heard of by its notifications or by a channel."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .source import RedisOptions, RedisSource
else:
    # Not before it is asked for: `source` may be what is being imported, by another thread, which waits for this.
    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import source

        return getattr(source, name)


__all__ = ["RedisOptions", "RedisSource"]
