"""GrowthBook: features fetched and streamed from its API (or proxy), evaluated in this process by its SDK."""

from .source import GrowthBookOptions, GrowthBookSource

__all__ = ["GrowthBookOptions", "GrowthBookSource"]
