"""Importing a vendor's package on first use."""

from typing import Any

from .importing import import_apart


def import_vendor(name: str, requirement: str) -> Any:
    """The module; `requirement` is what to install for it, such as ``rheostat[growthbook]``.

    Imports where no fork can fall between, for the sake of children that need the module too.

    Raises ImportError with the command that installs what is missing.
    """
    try:
        return import_apart(name)
    except ImportError as error:
        raise ImportError(f"{name} cannot be imported ({error}): pip install '{requirement}'") from error
