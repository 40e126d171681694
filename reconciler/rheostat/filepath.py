"""Paths in a configuration."""

from typing import NewType

FilePath = NewType("FilePath", str)
"""The path of a file. As the type of an option it is relative to the configuration file; ``~`` is a home folder."""
