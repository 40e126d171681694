"""Importing a vendor's package on first use."""

import importlib.util
import os
import re
import sys
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any

from rheostat._host.execution import current
from rheostat._host.importing import import_apart


def import_vendor(name: str, requirement: str) -> Any:
    """The module; `requirement` is what to install for it, such as ``rheostat[growthbook]``.

    Imports where no fork can fall between, for the sake of children that need the module too.

    Raises ImportError with the command that installs what is missing.
    """
    try:
        return current().apart(lambda: import_apart(name))
    except ImportError as error:
        foreign = foreign_build(name) or foreign_build(error.name or "")
        if foreign:
            raise ImportError(f"{name} cannot be imported, {foreign}: {reinstall(requirement)}") from error
        raise ImportError(f"{name} cannot be imported ({error}): pip install '{requirement}'") from error


def reinstall(requirement: str) -> str:
    """The advice for a `foreign_build`."""
    python = sys.executable or "python"
    return f"{python} -m pip install --force-reinstall '{requirement}'"


def foreign_build(name: str) -> str:
    """The finding that the package of `name` is here, but built for another Python or platform.

    Found out without importing it; nothing if that is not what is wrong.
    """
    builds: dict[str, list[str]] = {}
    for folder in _folders(name.partition(".")[0]):
        for within, _, files in os.walk(folder):
            for file in files:
                module, _, suffix = file.partition(".")
                # Other names are those of libraries that it brings for itself.
                if re.fullmatch(r"((cpython-|cp|pypy)\d.*\.|abi\d+\.)?(so|pyd)", suffix):
                    relative = os.path.relpath(within, os.path.dirname(folder))
                    builds.setdefault(os.path.join(relative, module), []).append(f".{suffix}")
    for module, suffixes in builds.items():
        if not {*suffixes} & {*EXTENSION_SUFFIXES}:
            ours = EXTENSION_SUFFIXES[0].split(".")[1]
            return f"{module}{suffixes[0]} is built for another Python than {ours}"
    return ""


def _folders(package: str) -> list[str]:
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(package)
        return list(spec.submodule_search_locations or ()) if spec is not None else []
    return []
