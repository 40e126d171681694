"""`rheostat receive`: profiles taken on this host, kept as files, and shown on a page in a real browser."""

import gzip
import http.client
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from rheostat.receive.archive import Archive
from rheostat.receive.page import data, page
from rheostat.receive.receiver import PUSH_PATH, Profile, Receiver, Sample
from support.children import PATIENCE, RHEOSTAT, Child, ended

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no chromium with its chromedriver")

CONFIG = """\
version: 1
application: shop
instance: host-1
source: {{kind: yaml, path: flags.yaml, poll_interval: 50ms}}
backend: {{kind: pyroscope, server_address: "{address}"}}
enabled: {{flag: "on"}}
settings: {{sample_rate: {{flag: rate, default: 100}}, upload_interval: 1}}
policy: {{cooldown: 0s, start_after: 0s}}
"""
APP = """\
import sys, threading

def burns_the_processor():
    while True:
        sum(range(1000))

threading.Thread(target=burns_the_processor, daemon=True).start()
sys.stdin.read()
"""


@contextmanager
def receiving(folder: Path, *options: str) -> Iterator[tuple[Child, int]]:
    with Child([*RHEOSTAT, "receive", "--port", "0", *options], folder) as child:
        said = child.out.next() or ""
        yield child, int(said.partition("127.0.0.1:")[2].partition(",")[0])


def asked(port: int, path: str, host: str = "127.0.0.1", **options: Any) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request(
        options.pop("method", "GET"), path, headers={"Host": host, **options.pop("headers", {})}, **options
    )
    answer = connection.getresponse()
    return answer.status, answer.read()


def profiles(port: int) -> list[Any]:
    return list(json.loads(asked(port, "/data")[1])["profiles"])


def until(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (result := found()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return result


@contextmanager
def shop(folder: Path, port: int) -> Iterator[Child]:
    (folder / "config.yaml").write_text(CONFIG.format(address=f"http://127.0.0.1:{port}"))
    (folder / "flags.yaml").write_text("on: true\n")
    (folder / "app.py").write_text(APP)
    with Child([*RHEOSTAT, "run", "--config", "config.yaml", "--", sys.executable, "app.py"], folder) as child:
        yield child


@contextmanager
def browser(width: int = 1200) -> Iterator[webdriver.Chrome]:
    options = Options()
    options.binary_location = str(CHROMIUM)
    for each in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--window-size={width},900",
    ):
        options.add_argument(each)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield driver
        assert [] == driver.get_log("browser")
    finally:
        driver.quit()


FRAMES = "[...document.querySelectorAll('#flames g[tabindex]')]"


def names(driver: webdriver.Chrome) -> list[str]:
    """At one moment: what is drawn anew is other elements."""
    return list(driver.execute_script(f"return {FRAMES}.map((each) => each.getAttribute('aria-label'))"))


def colours(driver: webdriver.Chrome) -> set[str]:
    script = f"return {FRAMES}.map((each) => each.querySelector('rect').getAttribute('fill'))"
    return set(driver.execute_script(script))


@needs_browser
def test_a_service_s_flame_graph_is_in_the_browser_without_any_server(tmp_path: Path) -> None:
    """It comes by itself as profiles arrive; what was kept is a pprof file, and is there after a restart."""
    with receiving(tmp_path, "--dir", "kept") as (child, port), browser() as driver:
        driver.get(f"http://127.0.0.1:{port}/")
        assert "No profile has arrived yet." == driver.find_element(By.ID, "summary").text
        with shop(tmp_path, port):
            until(lambda: any("burns_the_processor" in each for each in names(driver)))
        until(lambda: "of 1 process" in driver.find_element(By.ID, "summary").text)
        hottest = driver.find_element(By.CSS_SELECTOR, "#hottest tbody td:last-child").text
        assert hottest.endswith("burns_the_processor")
        shown = len(profiles(port))
        child.process.send_signal(signal.SIGTERM)
        assert 0 == child.process.wait(PATIENCE)
    files = list((tmp_path / "kept").glob("shop-*.pb.gz"))
    assert shown == len(files)
    assert gzip.decompress(files[0].read_bytes())
    with receiving(tmp_path, "--dir", "kept") as (_, port):
        assert shown == len(profiles(port))


def made(at: float, function: str = "work", value: int = 10**9, **labels: str) -> Profile:
    sample = Sample((function, "main"), (value,), {})
    named = {"__name__": "process_cpu", "service_name": "shop", "profiling_mode": "cpu", **labels}
    return Profile(named, ("cpu/nanoseconds",), 10**7, (sample,), {}, b"", at, 10.0)


@needs_browser
def test_a_page_in_one_file_searches_filters_compares_and_is_worked_by_keyboard(tmp_path: Path) -> None:
    """With nothing but itself: what it shows is within it, and names are names, whatever they look like."""
    evil = "</script><img src=x onerror=alert(1)>"
    shown = [
        made(1000.0, "reads", instance="a"),
        made(1010.0, evil, instance="a"),
        made(1020.0, "writes", 3 * 10**9, instance="b", service_name=evil),
    ]
    (tmp_path / "page.html").write_text(page(shown))
    with browser() as driver:
        driver.get((tmp_path / "page.html").as_uri())
        assert {"all", "main", "reads", "writes", evil} == set(names(driver))
        driver.find_element(By.ID, "search").send_keys("writes")
        until(lambda: "#e600e6" in {each.lower() for each in colours(driver)})
        driver.find_element(By.ID, "search").clear()
        choose(driver, "b")
        until(lambda: {"all", "main", "writes"} == set(names(driver)))
        choose(driver, "a")
        until(lambda: "writes" not in names(driver))
        # The first range is all, the other its first half: what was new then is marked.
        choose(driver, "")
        driver.find_element(By.ID, "compare").click()
        until(
            lambda: "beside the other range" in driver.execute_script("return document.querySelector('main').innerHTML")
        )
        driver.find_element(By.ID, "compare").click()
        until(
            lambda: (
                "beside the other range" not in driver.execute_script("return document.querySelector('main').innerHTML")
            )
        )
        driver.execute_script(f"{FRAMES}[0].focus()")
        driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
        focused = driver.switch_to.active_element
        name = str(focused.get_attribute("aria-label"))
        assert name in names(driver)[1:]
        assert name in driver.find_element(By.ID, "details").text
        focused.send_keys(Keys.ENTER)
        driver.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
        # A range of time, by its slider.
        slider = driver.find_element(By.ID, "to")
        driver.execute_script("arguments[0].value = 300; arguments[0].dispatchEvent(new Event('input'))", slider)
        until(lambda: "writes" not in names(driver))


def compares(driver: webdriver.Chrome) -> bool:
    text = driver.execute_script("return document.querySelector('main').innerHTML")
    return "beside the other range" in text


def choose(driver: webdriver.Chrome, instance: str) -> None:
    Select(driver.find_element(By.CSS_SELECTOR, "select[data-tag=instance]")).select_by_value(instance)


@needs_browser
def test_a_narrow_screen_scrolls_in_one_direction_only(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page([made(1000.0), made(1010.0, "a" * 300)]))
    with browser(500) as driver:
        driver.get((tmp_path / "page.html").as_uri())
        assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_the_page_asks_nobody_else() -> None:
    """No address of another host is fetched: none is in it but the names of namespaces and of licences."""
    text = page([])
    assert "/*" + "DATA*/" not in text
    assert "default-src 'none'" in text
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=[\"'](?!data:)", text)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"garbage", {}, 400),
        (b"", {"Content-Length": str(2**30)}, 413),
        (gzip.compress(bytes(100 * 2**20)), {"Content-Encoding": "gzip"}, 400),
        (b"\x0a\xff\xff\xff\xff\x0f", {}, 400),
    ],
)
def test_hostile_pushes_are_refused_and_nothing_else_happens(
    tmp_path: Path, body: bytes, headers: dict[str, str], status: int
) -> None:
    """Garbage, a gigabyte, a gzip bomb: each gets its answer, and the next request too."""
    with receiving(tmp_path, "--dir", "kept") as (child, port):
        assert status == asked(port, PUSH_PATH, method="POST", body=body or None, headers=headers)[0]
        assert (200, []) == (asked(port, "/")[0], profiles(port))
        child.process.send_signal(signal.SIGINT)
        assert (0, []) == (child.process.wait(PATIENCE), child.err.rest())


def test_another_site_s_page_cannot_read_it(tmp_path: Path) -> None:
    """By a name of its own that leads to loopback; and there is nothing but the page and its data."""
    with receiving(tmp_path) as (_, port):
        assert [404, 404] == [asked(port, path, host=f"evil.example:{port}")[0] for path in ("/", "/data")]
        assert [200, 200] == [asked(port, "/", host=f"{name}:{port}")[0] for name in ("localhost", "127.0.0.1")]
        assert [404, 404] == [asked(port, path)[0] for path in ("/static/page.js", "/../../etc/passwd")]


def test_the_folder_keeps_no_more_than_it_may(tmp_path: Path) -> None:
    """The newest stay, and the index has these and no others; a path in it that leads elsewhere is passed over."""
    folder = tmp_path / "kept"
    archive = Archive(str(folder), 3000)
    for number in range(10):
        archive.add(replace(made(1000.0 + number), pprof=b"\x1f\x8b" + bytes(998)))
    files = sorted(each.name for each in folder.glob("*.pb.gz"))
    assert 3 == len(files)
    index = [json.loads(line)["file"] for line in (folder / "index.jsonl").read_text().splitlines()]
    assert files == sorted(index)
    assert 10 == len(archive.profiles())
    with (folder / "index.jsonl").open("a") as file:
        file.write('{"file": "../secret.pb.gz", "labels": {}}\nnonsense\n[]\n')
    assert [] == Archive(str(folder), 3000).profiles()


def test_a_full_disk_loses_the_files_and_not_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said once, and no half of a file is left."""
    archive = Archive(str(tmp_path / "kept"), 10**6)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for number in range(3):
        archive.add(made(1000.0 + number))
    assert 3 == len(archive.profiles())
    assert [] == list((tmp_path / "kept").iterdir())
    assert 1 == capsys.readouterr().err.count("No space left on device")


def test_what_is_shown_is_bounded() -> None:
    archive = Archive(None, 0)
    for number in range(2100):
        archive.add(made(float(number)))
    assert 2000 == len(archive.profiles())
    found = data(archive.profiles())
    assert (["work", "main"], [[0, 1]], 2000) == (found["names"], found["stacks"], len(found["profiles"]))


def test_a_port_or_folder_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    with Receiver() as taken:
        port = taken.address.rpartition(":")[2]
        ran = ended([*RHEOSTAT, "receive", "--port", port], tmp_path)
        assert 1 == ran.returncode
        assert f"port {port} cannot be had" in ran.stderr
    (tmp_path / "file").touch()
    ran = ended([*RHEOSTAT, "receive", "--port", "0", "--dir", "file"], tmp_path)
    assert (1, True) == (ran.returncode, "the profiles' folder cannot be used" in ran.stderr)
    for options in (["--port", "70000"], ["--keep", "much"]):
        assert 2 == ended([*RHEOSTAT, "receive", *options], tmp_path).returncode
