"""Importing a vendor's package on first use."""

import importlib
from typing import Any

from .forking import FORKS


def import_vendor(name: str, requirement: str) -> Any:
    """The module; `requirement` is what to install for it, such as ``rheostat[growthbook]``.

    Imports where no fork can fall between, for the sake of children that need the module too.

    Raises ImportError with the command that installs what is missing.
    """
    try:
        with FORKS.held_off():
            return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{name} cannot be imported ({error}): pip install '{requirement}'") from error
