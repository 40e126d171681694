"""Importing a vendor's package on first use."""

import importlib
from itertools import accumulate
from typing import Any

from .forking import FORKS


def import_vendor(name: str, requirement: str) -> Any:
    """The module; `requirement` is what to install for it, such as ``rheostat[growthbook]``.

    Imports where no fork can fall between, for the sake of children that need the module too.

    Raises ImportError with the command that installs what is missing.
    """
    try:
        return import_apart(name)
    except ImportError as error:
        raise ImportError(f"{name} cannot be imported ({error}): pip install '{requirement}'") from error


def import_apart(name: str) -> Any:
    """The module, imported where no fork can fall between, and no thread of the application's that imports it too.

    Its packages come first: were it the first, its lock would be held while they are imported, and a thread that
    imports them might want it.
    """
    with FORKS.held_off():
        return [importlib.import_module(each) for each in accumulate(name.split("."), "{}.{}".format)][-1]
