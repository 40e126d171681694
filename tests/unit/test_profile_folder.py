"""The files of profiles: their names, and which of them have to go."""

import os
from pathlib import Path

import pytest

from rheostat._host.profile_folder import ProfileFile, ProfileFolder, superfluous

MIB = 2**20
HOUR = 3600.0


def folder_of(path: Path, application: str = "shop/checkout", most: int = MIB) -> ProfileFolder:
    return ProfileFolder(str(path), application, ".pb.gz", max_total_size=most, max_age=HOUR)


def aged(folder: Path, name: str, size: int = 1, age: float = 0.0) -> Path:
    """A file that was changed so many seconds ago."""
    path = folder / name
    path.write_bytes(bytes(size))
    changed = path.stat().st_mtime - age
    os.utime(path, (changed, changed))
    return path


def test_a_file_has_its_name_once_it_is_whole(tmp_path: Path) -> None:
    """That says whose it is, from when, and of which kind; the folder is made."""
    folder = folder_of(tmp_path / "new" / "profiles")
    begun = folder.begin("process_cpu")
    assert begun.name.endswith("-process_cpu.pb.gz.part")
    whole = folder.finish(begun)
    assert [whole] == [*(tmp_path / "new" / "profiles").iterdir()]
    assert whole.name.startswith(f"shop_checkout-{os.getpid()}-")
    assert whole.name.endswith("Z-process_cpu.pb.gz")


def test_a_label_is_no_path(tmp_path: Path) -> None:
    """Whatever a profiler calls its profiles, the file is in the folder, and of a name that is known again."""
    folder = folder_of(tmp_path, most=0)
    folder.add(b"profile", "../../a b")
    assert [] == [*tmp_path.rglob("*")]


def test_content_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """Where it cannot be written nothing is left, and the reason comes out."""
    folder = folder_of(tmp_path)
    assert b"profile" == folder.add(b"profile").read_bytes()
    with pytest.raises(TypeError):
        folder.add("no bytes")  # type: ignore[arg-type]
    assert 1 == len([*tmp_path.iterdir()])


def test_a_check_leaves_nothing(tmp_path: Path) -> None:
    """It finds out whether a file could be written."""
    folder_of(tmp_path / "profiles").check()
    assert [] == [*(tmp_path / "profiles").iterdir()]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="exists"):
        folder_of(tmp_path / "file").check()


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    """Be it whole, or left by a process that was killed; nothing else does."""
    aged(tmp_path, "shop_checkout-7-20250101T000000000000Z.pb.gz", age=2 * HOUR)
    aged(tmp_path, "shop_checkout-7-20250101T000000000001Z-memory.pb.gz", age=2 * HOUR)
    aged(tmp_path, "shop_checkout-8-20250101T000000000000Z.pb.gz.part", age=2 * HOUR)
    young = aged(tmp_path, "shop_checkout-9-20250107T000000000000Z.pb.gz", age=HOUR / 2)
    being_written = aged(tmp_path, "shop_checkout-9-20250107T000000000001Z.pb.gz.part", size=2 * MIB)
    new = folder_of(tmp_path).add(b"profile")
    assert {young, being_written, new} == {*tmp_path.iterdir()}


def test_what_is_too_much_goes(tmp_path: Path) -> None:
    """The oldest first, until the rest has the size that it may have; the new one is the newest."""
    older = aged(tmp_path, "shop_checkout-7-20250101T000000000000Z.pb.gz", size=MIB // 2, age=20)
    newer = aged(tmp_path, "shop_checkout-7-20250102T000000000000Z.pb.gz", size=MIB // 2, age=10)
    new = folder_of(tmp_path).add(b"profile")
    assert {newer, new} == {*tmp_path.iterdir()}
    assert not older.exists()


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "shop_checkout.pb.gz",
        "shop_checkout-7.pb.gz",
        "shop_checkout-blue-7-20250101T000000000000Z.pb.gz",
        "cart-7-20250101T000000000000Z.pb.gz",
        "shop_checkout-7-20250101T000000000000Z.pb.gz.html",
        "shop_checkout-7-20250101T000000000000Z.bin",
    ],
)
def test_other_files_are_left_alone(tmp_path: Path, name: str) -> None:
    """However old and large, a file of another name, or of another application, is not deleted."""
    other = aged(tmp_path, name, size=2 * MIB, age=10**8)
    folder_of(tmp_path).add(b"profile")
    assert other.exists()


def test_the_oldest_goes_first() -> None:
    """Of three files that are too much together, the one changed first goes, whatever their order."""
    files = [ProfileFile(Path(name), 40, changed) for name, changed in (("b", 2.0), ("a", 1.0), ("c", 3.0))]
    assert superfluous(files, oldest=0.0, most=100) == [Path("a")]


def test_limits_are_inclusive() -> None:
    """A file exactly as large and as old as it may be is kept."""
    assert superfluous([ProfileFile(Path("a"), 100, 5.0)], oldest=5.0, most=100) == []
