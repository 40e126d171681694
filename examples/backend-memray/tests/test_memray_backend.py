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

from rheostat.plugins import Bytes, Duration, FilePath, Identity, InvalidOptions, ProfileFolder, TemporaryError
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
    ProfileFolder(str(tmp_path), "shop/checkout", ".bin", max_total_size=MIB, max_age=3600).prune()
    assert file.exists()


def test_a_stop_makes_room(tmp_path: Path) -> None:
    """A stop deletes what is too old, or too much; the session's own file is the newest."""
    old = tmp_path / "shop_checkout-7-20250101T000000000000Z.bin"
    old.write_bytes(bytes(MIB))
    os.utime(old, (10**9, 10**9))
    backend = build(tmp_path, max_total_size=Bytes(MIB))
    backend.start({})
    backend.stop()
    (left,) = tmp_path.iterdir()
    assert left != old


@pytest.mark.parametrize(
    ("options", "named"),
    [({"max_total_size": Bytes(MIB - 1)}, "max_total_size"), ({"max_age": Duration(3599.0)}, "max_age")],
)
def test_limits_that_would_keep_nothing_are_refused(tmp_path: Path, options: Mapping[str, object], named: str) -> None:
    """A limit below the least is an error that names the option."""
    with pytest.raises(InvalidOptions, match=named):
        build(tmp_path, **options)
