"""The record of a session: what was written is found again, and what is not ours counts as nothing."""

from pathlib import Path

import pytest

from rheostat._control.session_record import SessionRecord, Since, owner
from rheostat._host.scribe import Scribe
from rheostat._host.state_folder import StateFolder
from rheostat.plugins import Identity

PATIENCE = 20.0
SHOP = Identity("shop", "here", {}, 1)


def test_a_session_is_found_by_the_next_process(tmp_path: Path) -> None:
    """Until the flags have said off."""
    folder, scribe = StateFolder(str(tmp_path / "state")), Scribe()
    record = SessionRecord(folder, SHOP, scribe)
    record.keep(5.0, "seven")
    scribe.flush(PATIENCE)
    assert Since(5.0, "seven") == SessionRecord(folder, SHOP, scribe).load()
    record.keep(None, None)
    scribe.flush(PATIENCE)
    assert None is SessionRecord(folder, SHOP, scribe).load()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"{}",
        b'{"since": 5}',
        b'{"since": null, "session_id": 1}',
        b'{"since": 1' + 400 * b"0" + b', "session_id": 1}',
        100_000 * b"[",
    ],
    ids=["empty", "cut", "binary", "list", "no keys", "no id", "null", "too great", "too deep"],
)
def test_a_file_that_is_none_of_ours_is_no_session(tmp_path: Path, content: bytes) -> None:
    folder = StateFolder(str(tmp_path / "state"))
    folder.write(f"session-{owner(SHOP)}.json", content)
    assert None is SessionRecord(folder, SHOP, Scribe()).load()
