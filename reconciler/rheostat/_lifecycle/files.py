"""The means by which a process leaves word for others."""

from typing import TYPE_CHECKING

from rheostat._config.config import Config
from rheostat._host.importing import import_apart
from rheostat._host.scribe import Scribe
from rheostat._host.state_folder import StateFolder, default_paths
from rheostat._report.journal import Journal
from rheostat._report.status import Snapshot

if TYPE_CHECKING:
    from rheostat._report.status_file import StatusFile


class Files:
    """The folder that the configuration names, who writes there, and this process's own file once it is opened."""

    def __init__(self, config: Config, journal: Journal) -> None:
        self.folder = StateFolder(config.state_dir or default_paths()[0])
        self.scribe = Scribe()
        self._journal = journal
        self._status: StatusFile | None = None

    def open(self, snapshot: Snapshot) -> None:
        """From now on what is published is written, this first. Not before the first flags are there: its imports
        would be waited for. Called again it does nothing."""
        if self._status is None:
            module = import_apart("rheostat._report.status_file")
            self._status = module.StatusFile(self.folder, self.scribe, self._journal.who, self._journal.masked)
            self.publish(snapshot)

    def publish(self, snapshot: Snapshot) -> None:
        if self._status is not None:
            self._status.publish(snapshot)

    def remove(self) -> None:
        """The process governs nothing any more."""
        if self._status is not None:
            self._status.remove()
