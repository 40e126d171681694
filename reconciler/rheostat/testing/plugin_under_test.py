"""From a section of YAML to a plug-in, by the way that any configuration takes."""

import importlib
import os
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from textwrap import indent
from typing import Any, Final

from rheostat import ConfigError
from rheostat._config.config import Plugin, load_config

_CONFIG: Final = """\
version: 1
application: contract
instance: host-1
tags: {{role: kit}}
source:
{source}
backend:
{backend}
enabled: {{flag: contract_enabled, default: false}}
"""


class PluginsConfig:
    """A configuration with one third-party plug-in; `imports` are the modules that the application has."""

    def __init__(self, path: str | os.PathLike[str], imports: Iterable[str] = ()) -> None:
        for each in imports:
            importlib.import_module(each)
        try:
            self._config = load_config(path, third_party=True)
            self._wiring = self._config.wire()
        except ConfigError as error:
            raise AssertionError(f"the section cannot be used: {error}") from error

    @property
    def source_class(self) -> type[Any]:
        return self._source.cls

    @property
    def backend_class(self) -> type[Any]:
        return self._wiring.backend.cls

    def source(self) -> Any:
        """A new flag source."""
        return self._source.build(self._config.identity())

    def backend(self) -> Any:
        """A new backend."""
        return self._wiring.backend.build(self._config.identity())

    @property
    def _source(self) -> Plugin:
        return next(iter(self._wiring.sources.values()))


def write_config(folder: Path, *, source: str = "{kind: yaml, path: none.yaml}", backend: str = "{kind: noop}") -> Path:
    """The path of a configuration with these sections."""
    path = folder / "contract.yaml"
    path.write_text(_CONFIG.format(source=indent(source, "  "), backend=indent(backend, "  ")))
    return path


def has_sound_options(cls: type[Any]) -> bool:
    """They are a dict, or a dataclass that is frozen and keyword-only."""
    options = cls.Options
    return options is dict or (
        is_dataclass(options)
        and bool(getattr(options, "__dataclass_params__").frozen)  # noqa: B009  # no stub has it
        and all(each.kw_only for each in fields(options) if each.init)
    )
