"""Profiles as files in a folder: the Pyroscope agent, without any server."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from rheostat.plugins import Bytes, Duration, FilePath, Identity, Parameter, TemporaryError, hold_off_forks
from rheostat_backends.pyroscope.backend import PyroscopeBackend
from rheostat_backends.pyroscope.loopback import LoopbackBackend, LoopbackOptions

if TYPE_CHECKING:
    from rheostat.plugins import ProfileFolder
    from rheostat_backends.pyroscope.push import PushedProfile

_ENDING: Final = ".pb.gz"
_LEAST_TOTAL_SIZE: Final = 2**20
_LEAST_AGE: Final = 60.0


# Nobody compares options, and each method that a dataclass writes costs the importing process.
@dataclass(frozen=True, kw_only=True, eq=False)
class FilesOptions(LoopbackOptions):
    """The ``backend`` section: where the files go, the bytes that they may have together, and how old they may be."""

    folder: FilePath
    max_total_size: Bytes = Bytes(256 * 2**20)
    max_age: Duration = Duration(7 * 24 * 3600.0)

    def wrong(self) -> dict[str, str]:
        wrong = super().wrong()
        if self.max_total_size < _LEAST_TOTAL_SIZE:
            wrong["max_total_size"] = "1MiB or more"
        if self.max_age < _LEAST_AGE:
            wrong["max_age"] = "1m or more"
        return wrong


class FilesBackend(LoopbackBackend):
    """Each upload interval leaves one file of each profile, as `go tool pprof` and speedscope open it."""

    Options: ClassVar[type] = FilesOptions
    parameters: ClassVar[Mapping[str, Parameter] | None] = {
        **(PyroscopeBackend.parameters or {}),
        # A server merges what arrives, and a person opens one file.
        "upload_interval": Parameter(int, 60, min=1, max=3600),
    }

    def __init__(self, options: FilesOptions, identity: Identity) -> None:
        super().__init__(options, identity)
        self._options = options
        self._made: ProfileFolder | None = None

    @property
    def _folder(self) -> "ProfileFolder":
        if self._made is None:
            # Only who writes files pays for it.
            with hold_off_forks():
                from rheostat.plugins import ProfileFolder
            options = self._options
            self._made = ProfileFolder(
                options.folder,
                self._identity.application,
                _ENDING,
                max_total_size=options.max_total_size,
                max_age=options.max_age,
            )
        return self._made

    def prepare(self) -> None:
        try:
            self._folder.check()
        except OSError as error:
            raise self._useless(error) from error

    def deliver(self, profiles: Iterable["PushedProfile"]) -> None:
        with hold_off_forks():
            from gzip import compress
        for each in profiles:
            # As small as it matters: a file is read once, if at all.
            self._folder.add(compress(each.pprof, 6, mtime=0), each.labels.get("__name__", ""))

    def reach(self, timeout: float) -> None:
        """Raises TemporaryError if the last file could not be written, or the next could not be begun."""
        trouble = self.undelivered()
        if isinstance(trouble, OSError):
            raise self._useless(trouble)
        if trouble is not None:
            raise TemporaryError(f"the last profiles were lost ({type(trouble).__name__})")
        self.prepare()

    def _useless(self, error: OSError) -> TemporaryError:
        why = error.strerror or type(error).__name__
        return TemporaryError(f"{self._options.folder}: {why}; expected a folder to write profiles to")
