"""An application's OpenFeature provider: flags from a JSON file, read for each evaluation."""

import json
import os
from pathlib import Path
from typing import Any, Final

from openfeature.exception import ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

WHERE: Final = "FILE_PROVIDER_PATH"
"""The variable in the environment that names the file."""


class FileProvider(InMemoryProvider):
    def __init__(self, path: Path) -> None:
        super().__init__({})
        self._path = path

    def _resolve(self, flag_key: str, *rest: Any) -> FlagResolutionDetails[Any]:
        try:
            flags = json.loads(self._path.read_text())
        except FileNotFoundError:
            raise ProviderNotReadyError(f"{self._path} is not there") from None
        self._flags = {flag: InMemoryFlag("only", {"only": value}) for flag, value in flags.items()}
        return super()._resolve(flag_key, *rest)


def make() -> FileProvider:
    return FileProvider(Path(os.environ[WHERE]))
