"""The page of a package index about Rheostat: it is built from README.md, whose links are those of a checkout."""

import re
import tarfile
from collections.abc import Mapping
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

from support.wheels import ROOT, UV, printed_by, wheel_of

LINK = re.compile(r"\]\(([^)\s]+)\)")

pytestmark = pytest.mark.timeout(180)


def metadata_of(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def description_of(metadata: Message) -> str:
    body = metadata.get_payload(decode=True)
    assert isinstance(body, bytes)
    return body.decode()


def urls_of(metadata: Message) -> Mapping[str, str]:
    pairs = (each.partition(", ") for each in metadata.get_all("Project-URL", ()))
    return {label: url for label, _, url in pairs}


def is_there(path: str) -> bool:
    """A link in the terms of the project's tree, with an anchor that is a heading of that page if it has one."""
    name, _, anchor = path.partition("#")
    page = ROOT / (name or "README.md")
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE) if anchor and page.is_file() else []
    slugs = [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings]
    return page.exists() and (not anchor or anchor in slugs)


def leads_somewhere(link: str, home: str) -> bool:
    """An address of ours names a file or a folder that there is, as what it is."""
    kind, _, path = link.removeprefix(f"{home}/").partition("/HEAD/")
    right = {"blob": Path.is_file, "tree": Path.is_dir}[kind](ROOT / path.partition("#")[0])
    return right and is_there(path)


@pytest.fixture(scope="module")
def metadata(rheostat_wheel: Path) -> Message:
    return metadata_of(rheostat_wheel)


def test_the_links_of_a_checkout_lead_somewhere() -> None:
    """Those of README.md are relative, and each is one to a file or a folder of the project."""
    links = [each for each in LINK.findall((ROOT / "README.md").read_text()) if not each.startswith("http")]
    assert links
    assert [] == [each for each in links if not is_there(each)]


def test_no_link_of_the_description_is_relative(metadata: Message) -> None:
    """Each is an address; those of ours name what is there."""
    home, description = urls_of(metadata)["Homepage"], description_of(metadata)
    links = LINK.findall(description)
    ours = [each for each in links if each.startswith(home)]
    assert len(LINK.findall((ROOT / "README.md").read_text())) == len(links)
    assert [] == [each for each in links if not re.match(r"https?://[\w.]+/", each)]
    assert [] == [each for each in ours if not leads_somewhere(each, home)]
    assert [] == re.findall(r"^\[[^\]]+\]:|\b(?:href|src)=", description, re.MULTILINE)
    assert {"blob", "tree"} == {each.removeprefix(f"{home}/").partition("/")[0] for each in ours}


def test_nothing_but_links_differs_from_the_readme(metadata: Message) -> None:
    """The text is the same, diagram and tables included."""
    readme = (ROOT / "README.md").read_text()
    assert "text/markdown" == metadata["Description-Content-Type"]
    assert LINK.sub("]()", readme).split() == LINK.sub("]()", description_of(metadata)).split()


def test_the_addresses_are_one_project_s(metadata: Message) -> None:
    """Home, documentation, changelog and issues are of one repository, and pyproject.toml names no other."""
    urls = urls_of(metadata)
    home = urls["Homepage"]
    assert ["Changelog", "Documentation", "Homepage", "Issues"] == sorted(urls)
    assert [True, True] == [leads_somewhere(urls[name], home) for name in ("Changelog", "Documentation")]
    assert f"{home}/issues" == urls["Issues"]
    named = re.findall(r"https://github\.com/[\w.-]+/[\w.-]+", (ROOT / "pyproject.toml").read_text())
    assert {home} == set(named)


def test_each_python_that_is_supported_is_a_classifier(metadata: Message) -> None:
    """From the oldest that installs it on, without a gap."""
    minors = [
        int(minor)
        for each in metadata.get_all("Classifier", ())
        for minor in re.findall(r"^Programming Language :: Python :: 3\.(\d+)$", each)
    ]
    assert f">=3.{minors[0]}" == metadata["Requires-Python"]
    assert list(range(minors[0], minors[0] + len(minors))) == minors


def test_a_source_distribution_gives_the_same(metadata: Message, tmp_path: Path) -> None:
    """It tells the same of itself, and what is built from it does too."""
    printed_by([*UV, "build", "--quiet", "--sdist", "--out-dir", tmp_path, ROOT], ROOT)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        member = archive.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/PKG-INFO")
        assert member is not None
        told = message_from_bytes(member.read())
    built = metadata_of(wheel_of(sdist, tmp_path / "wheel"))
    assert [metadata.as_string()] * 2 == [told.as_string(), built.as_string()]
