"""What the agent pushes is read without protobuf, as protobuf reads it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.receive.receiver import _push_messages
from rheostat_backends.pyroscope.push import PushedProfile, pushed_profiles

TEXTS = st.text(max_size=20)
SERIES = st.tuples(st.dictionaries(TEXTS, TEXTS, max_size=4), st.lists(st.binary(max_size=300), max_size=3))


def pushed(series: list[tuple[dict[str, str], list[bytes]]]) -> bytes:
    push = _push_messages().parse("Push", b"")
    for labels, profiles in series:
        added = push.series.add()
        for name, value in labels.items():
            added.labels.add(name=name, value=value)
        for each in profiles:
            added.samples.add(raw_profile=each)
    return bytes(push.SerializeToString())


@given(st.lists(SERIES, max_size=4))
def test_each_profile_comes_with_the_labels_of_its_series(series: list[tuple[dict[str, str], list[bytes]]]) -> None:
    """In the order of the push, whatever the texts; one that is empty is left out as protobuf leaves it out."""
    expected = [PushedProfile(labels, each) for labels, profiles in series for each in profiles if each]
    assert expected == list(pushed_profiles(pushed(series)))


@given(st.binary(max_size=200))
def test_garbage_is_no_push(data: bytes) -> None:
    """Whatever arrives is profiles, or a ValueError; nothing else comes out, and it has an end."""
    try:
        list(pushed_profiles(data))
    except ValueError:
        return


def test_fields_that_are_not_known_are_passed_over() -> None:
    """Numbers and fixed ones, as a later version of the protocol may have."""
    later = b"\x18\x96\x01" + b"\x25abcd" + b"\x29abcdefgh"
    profile = pushed([({"a": "b"}, [b"profile"])])
    assert [PushedProfile({"a": "b"}, b"profile")] == list(pushed_profiles(later + profile + later))


@pytest.mark.parametrize("cut", [1, 5, -1])
def test_a_push_that_is_cut_off_is_told(cut: int) -> None:
    with pytest.raises(ValueError, match="push"):
        list(pushed_profiles(pushed([({"a": "b"}, [b"profile"])])[:cut]))
