"""The backend as Rheostat uses it, and the files that it leaves."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import memray
import pytest
from rheostat_backend_memray.backend import MemrayBackend, MemrayOptions
from rheostat_backend_memray.folder import Folder, Profile, superfluous

from rheostat.plugins import Duration, FilePath, Identity, InvalidOptions, TemporaryError
from rheostat.testing import BackendContract

MIB = 2**20


class TestMemray(BackendContract):
    """The contract of any backend."""

    @pytest.fixture(autouse=True)
    def profiles(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "profiles"

    def section(self) -> str:
        return f"{{kind: memray, folder: '{self.folder}'}}"

    def is_profiling(self) -> bool:
        """memray refuses a second tracker."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                with memray.Tracker(f"{folder}/other.bin"):
                    pass
            except RuntimeError:
                return True
        return False

    def break_down(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.write_text("a file is in the way")

    def mend(self) -> None:
        self.folder.unlink()


def build(folder: Path, **options: object) -> MemrayBackend:
    identity = Identity(application="shop/checkout", instance="host-1", tags={}, pid=os.getpid())
    return MemrayBackend(MemrayOptions(folder=FilePath(str(folder)), **options), identity)  # type: ignore[arg-type]


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[MemrayBackend]:
    backend = build(tmp_path)
    yield backend
    backend.stop()


def allocated_in(file: Path) -> Mapping[str, int]:
    """The bytes that were allocated below each function, at the moment of most memory."""
    found: dict[str, int] = {}
    with memray.FileReader(file) as reader:
        for record in reader.get_high_watermark_allocation_records(merge_threads=True):
            for name in {name for name, _, _ in record.stack_trace()}:
                found[name] = found.get(name, 0) + record.size
    return found


def remember_much() -> bytearray:
    return bytearray(5 * MIB)


def test_the_file_says_who_allocated(backend: MemrayBackend, tmp_path: Path) -> None:
    """memray can read the file of a session, which has the allocations made meanwhile by functions' names."""
    # As Rheostat does: of the thread that starts it, memray does not see the stacks.
    with ThreadPoolExecutor(1) as apart:
        apart.submit(backend.start, {}).result(10)
    kept = remember_much()
    with ThreadPoolExecutor(1) as apart:
        apart.submit(backend.stop).result(10)
    (file,) = tmp_path.iterdir()
    assert file.name.startswith(f"shop_checkout-{os.getpid()}-")
    assert file.suffix == ".bin"
    assert allocated_in(file)["remember_much"] >= len(kept)


def test_a_file_has_its_name_once_it_is_whole(backend: MemrayBackend, tmp_path: Path) -> None:
    """While the session runs there is nothing that memray could be asked to read."""
    backend.start({})
    assert [each.suffix for each in tmp_path.iterdir()] == [".part"]


def test_another_tracker_is_in_the_way(backend: MemrayBackend, tmp_path: Path) -> None:
    """While the application uses memray itself, the start fails for now, leaves no file, and the other goes on."""
    with tempfile.TemporaryDirectory() as elsewhere, memray.Tracker(f"{elsewhere}/other.bin"):
        before = os.listdir("/dev/fd")
        with pytest.raises(TemporaryError) as refused:
            backend.start({})
        assert os.listdir("/dev/fd") == before
    assert "nothing else uses memray" in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    backend.start({})


def test_a_lost_file_is_noticed(backend: MemrayBackend, tmp_path: Path) -> None:
    """Once somebody has deleted the session's file, the probe says so, and the stop too."""
    backend.start({})
    (file,) = tmp_path.iterdir()
    assert backend.probe().status == "healthy"
    file.unlink()
    assert backend.probe().status == "failed"
    with pytest.raises(TemporaryError, match="No such file"):
        backend.stop()
    backend.stop()


def test_the_probe_keeps_the_file_young(backend: MemrayBackend, tmp_path: Path) -> None:
    """However long a session runs, the processes that prune the folder meanwhile leave its file alone."""
    backend.start({})
    (file,) = tmp_path.iterdir()
    os.utime(file, (0, 0))
    backend.probe()
    Folder(str(tmp_path), "shop/checkout").prune(MIB, 3600)
    assert file.exists()


def aged(folder: Path, name: str, size: int = 1, age: float = 0.0) -> Path:
    """A file that was changed so many seconds ago."""
    path = folder / name
    path.write_bytes(bytes(size))
    changed = path.stat().st_mtime - age
    os.utime(path, (changed, changed))
    return path


def test_a_stop_prunes(backend: MemrayBackend, tmp_path: Path) -> None:
    """A stop deletes what is older than max_age, be it whole or left by a process that was killed, and no other."""
    eight_days = 8 * 24 * 3600
    aged(tmp_path, "shop_checkout-7-20250101T000000000000Z.bin", age=eight_days)
    aged(tmp_path, "shop_checkout-8-20250101T000000000000Z.bin.part", age=eight_days)
    young = aged(tmp_path, "shop_checkout-9-20250107T000000000000Z.bin", age=3600)
    backend.start({})
    backend.stop()
    left = set(tmp_path.iterdir())
    assert young in left
    assert len(left) == 2


def test_a_stop_makes_room(tmp_path: Path) -> None:
    """A stop deletes the oldest while all have more than max_total_size together; the session's own is the newest."""
    older = aged(tmp_path, "shop_checkout-7-20250101T000000000000Z.bin", size=MIB // 2, age=20)
    newer = aged(tmp_path, "shop_checkout-7-20250102T000000000000Z.bin", size=MIB // 2, age=10)
    backend = build(tmp_path, max_total_size=MIB)
    backend.start({})
    backend.stop()
    left = set(tmp_path.iterdir())
    assert newer in left
    assert older not in left
    assert len(left) == 2


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "shop_checkout.bin",
        "shop_checkout-7.bin",
        "shop_checkout-blue-7-20250101T000000000000Z.bin",
        "cart-7-20250101T000000000000Z.bin",
        "shop_checkout-7-20250101T000000000000Z.bin.html",
    ],
)
def test_other_files_are_left_alone(backend: MemrayBackend, tmp_path: Path, name: str) -> None:
    """However old and large, a file of another name, or of another application, is not deleted."""
    other = aged(tmp_path, name, size=MIB, age=10**8)
    backend.start({})
    backend.stop()
    assert other.exists()


def test_the_oldest_goes_first() -> None:
    """Of three files that are too much together, the one changed first goes, whatever their order."""
    files = [Profile(Path(name), 40, changed) for name, changed in (("b", 2.0), ("a", 1.0), ("c", 3.0))]
    assert superfluous(files, oldest=0.0, most=100) == [Path("a")]


def test_limits_are_inclusive() -> None:
    """A file exactly as large and as old as it may be is kept."""
    assert superfluous([Profile(Path("a"), 100, 5.0)], oldest=5.0, most=100) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [({"max_total_size": MIB - 1}, "max_total_size"), ({"max_age": Duration(3599.0)}, "max_age")],
)
def test_limits_that_would_keep_nothing_are_refused(tmp_path: Path, options: Mapping[str, object], named: str) -> None:
    """A limit below the least is an error that names the option."""
    with pytest.raises(InvalidOptions, match=named):
        build(tmp_path, **options)
