"""The part that the conformance kits of flag sources and of backends share."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from .plugin_under_test import PluginsConfig, write_config


class Kit:
    """Owns the folder of a test, the configuration in it, and all that is to be closed after it."""

    patience: ClassVar[float] = 10.0
    """Seconds after which something that is waited for has failed to come."""
    imports: ClassVar[Sequence[str]] = ()
    """Modules that the application has imported before; they are imported in child processes too."""
    _key: ClassVar[Literal["source", "backend"]]
    """Of the plug-in's section in a configuration."""

    def section(self) -> str:
        """The plug-in's section of the configuration, as YAML, with its kind."""
        raise NotImplementedError(f"section() is to give the {self._key}'s section of the configuration, as YAML")

    @pytest.fixture(autouse=True)
    def _contract(self, tmp_path: Path) -> Iterator[None]:
        self._folder = tmp_path
        with ExitStack() as self._stack:
            yield

    def _config_file(self) -> Path:
        return write_config(self._folder, **{self._key: self.section()})

    def _config(self) -> PluginsConfig:
        return PluginsConfig(self._config_file(), self.imports)
