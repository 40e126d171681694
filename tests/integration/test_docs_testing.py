"""docs/testing.md: its tests pass as they stand, and its story is one that the state machine tells."""

import re
from pathlib import Path

from rheostat.testing import FAULTS, Declared, Scenario
from support.children import PATIENCE, Child
from support.pages import DOCS, blocks, command, unpack

PAGE = DOCS / "testing.md"


def test_the_page_s_tests_pass(tmp_path: Path) -> None:
    """The kit for a source, and the rules under virtual time."""
    unpack(PAGE, tmp_path)
    with Child([*command(PAGE, "python -m pytest").command, "-p", "no:cacheprovider"], tmp_path) as child:
        tested = child.process.wait(2 * PATIENCE)
        printed = child.out.rest()
    assert 0 == tested, printed
    passed = re.search(r"(\d+) passed", printed[-1])
    assert passed is not None
    assert int(passed[1]) > 30


def test_the_page_names_faults_that_there_are() -> None:
    """Those it lists can be set."""
    sentence = PAGE.read_text().partition("has the faults by name: ")[2].partition(", and whatever")[0]
    named = re.findall(r"`([\w ]+)`", sentence)
    assert named
    assert [] == [name for name in named if not any(name in faults for faults in FAULTS.values())]


def test_the_story_begins_with_a_configuration_as_the_machine_prints_it() -> None:
    """Its keys are those of a scenario's configuration, in their order."""
    (story,) = blocks(PAGE, "text")
    config = story.text.partition("the configuration:\n")[2].partition("\n\n")[0]
    keys = re.findall(r"^(\w+):", config, re.MULTILINE)
    assert keys
    assert keys == re.findall(r"^(\w+):", Scenario(Declared("enabled", bool, False, "on")).yaml(), re.MULTILINE)
