"""The means by which a process leaves word for others."""

from rheostat._config.config import Config
from rheostat._host.scribe import Scribe
from rheostat._host.state_folder import StateFolder, default_paths
from rheostat._report.journal import Journal
from rheostat._report.status_file import StatusFile


class Files:
    """The folder that the configuration names, who writes there, and this process's own file."""

    def __init__(self, config: Config, journal: Journal) -> None:
        self.folder = StateFolder(config.state_dir or default_paths()[0])
        self.scribe = Scribe()
        self.status = StatusFile(self.folder, self.scribe, journal.who, journal.masked)
