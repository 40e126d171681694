"""Starts that the process may not have survived: each is on record as long as it is not known to have lasted."""

import os
import threading
from pathlib import Path

from rheostat._control.crash_record import CrashRecord
from rheostat._host.scribe import Scribe
from rheostat._host.state_folder import StateFolder
from rheostat.plugins import Identity

PATIENCE = 20.0


def test_the_late_end_of_a_session_takes_no_word_of_the_next(tmp_path: Path) -> None:
    """As at a restart: the removal may wait behind other files while the next session starts."""
    folder, scribe, goes_on = StateFolder(str(tmp_path / "state")), Scribe(), threading.Event()
    record = CrashRecord(folder, Identity("shop", "here", {}, os.getpid()), scribe)
    record.starting(lambda: None, {"rate": 20})()
    scribe.do(lambda: goes_on.wait(PATIENCE))
    record.close()
    record.starting(lambda: None, {"rate": 40})()
    goes_on.set()
    scribe.flush(PATIENCE)
    [left] = folder.names()
    assert b'"rate": 40' in (folder.read(left) or b"")
    record.close()
    scribe.flush(PATIENCE)
    assert [] == folder.names()
