"""The folder of a user's own: what is there is whole, ours, and read by nobody else."""

import os
import stat
from pathlib import Path

import pytest

from rheostat._host.living import ProcessId
from rheostat._host.state_folder import StateFolder, default_paths


def test_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    folder = StateFolder(str(tmp_path / "state"))
    assert [] == folder.names()
    folder.write("one", b"1")
    assert (b"1", None, ["one"]) == (folder.read("one"), folder.read("other"), folder.names())
    assert 0o700 == stat.S_IMODE((tmp_path / "state").stat().st_mode)
    assert 0o600 == stat.S_IMODE((tmp_path / "state/one").stat().st_mode)
    folder.remove("one")
    folder.remove("one")
    assert [] == folder.names()


@pytest.mark.parametrize("kind", ["link", "file", "open to others", "another user's"])
def test_what_is_not_ours_is_refused(tmp_path: Path, kind: str) -> None:
    """Neither read nor written: what somebody else put there first could lead anywhere."""
    path, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    elsewhere.mkdir()
    if kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "file":
        path.touch()
    else:
        path.mkdir()
        path.chmod(0o777 if kind == "open to others" else 0o700)
        if kind == "another user's":
            if os.geteuid():
                pytest.skip("only root can give a folder away")
            os.chown(path, 65534, 65534)
    folder = StateFolder(str(path))
    for call in (
        lambda: folder.write("one", b"1"),
        lambda: folder.read("one"),
        folder.names,
        lambda: folder.remove("one"),
    ):
        with pytest.raises(OSError, match="state"):
            call()
    assert [] == list(elsewhere.iterdir())


def test_links_within_are_not_followed(tmp_path: Path) -> None:
    folder = StateFolder(str(tmp_path / "state"))
    folder.make()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (tmp_path / "state/one").symlink_to(secret)
    with pytest.raises(OSError, match="symbolic"):
        folder.read("one")
    folder.write("one", b"1")
    assert ("secret", b"1") == (secret.read_text(), folder.read("one"))


def test_a_disk_that_takes_nothing_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no draft."""
    import posix

    folder = StateFolder(str(tmp_path / "state"))
    folder.write("one", b"1")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(posix, "write", full)
    with pytest.raises(OSError, match="No space"):
        folder.write("one", b"2")
    assert (b"1", ["one"]) == (folder.read("one"), os.listdir(tmp_path / "state"))


def test_the_default_is_where_the_session_manager_says_else_below_tmp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    assert [str(tmp_path / "rheostat"), f"/var/tmp/rheostat-{os.geteuid()}"] == default_paths()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    assert [f"/var/tmp/rheostat-{os.geteuid()}"] == default_paths()


def test_a_process_is_known_by_its_beginning_too() -> None:
    """The kernel gives ids again."""
    me = ProcessId.of(os.getpid())
    assert me.is_alive
    assert not me._replace(began=me.began + "0").is_alive
    assert not ProcessId.of(os.getpid())._replace(pid=2**22 - 1).is_alive
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not ProcessId(child, me.began).is_alive
    os.waitpid(child, 0)
