"""Objects of the application's that a configuration names."""

import os
import sys
import types
from collections.abc import Iterator

import pytest

from rheostat.plugins import HostObject, SourceUnavailable


class Client:
    """Something that the application has made."""


@pytest.fixture
def shop() -> Iterator[types.ModuleType]:
    """A module that the application has imported."""
    module = types.ModuleType("shop")
    sys.modules["shop"] = module
    yield module
    del sys.modules["shop"]


def refusal(text: str) -> str:
    with pytest.raises(SourceUnavailable) as caught:
        HostObject.from_text(text).take()
    return caught.value.reason


def test_what_a_callable_gives_is_taken(shop: types.ModuleType) -> None:
    """It is called each time, so that a client that was replaced is found."""
    made = [Client(), Client()]
    shop.client = iter(made).__next__
    assert made == [HostObject.from_text("shop:client").take(), HostObject.from_text("shop:client").take()]


def test_an_object_that_is_no_callable_is_taken_as_it_is(shop: types.ModuleType) -> None:
    """Also one inside another."""
    shop.flags = types.SimpleNamespace(client=Client())
    assert shop.flags.client is HostObject.from_text("shop:flags.client").take()


def test_the_module_is_never_imported() -> None:
    """That would race the application's own start-up."""
    assert "colorsys" not in sys.modules
    assert "colorsys:rgb_to_hsv: the application has not imported colorsys yet" == refusal("colorsys:rgb_to_hsv")
    assert "colorsys" not in sys.modules


def test_a_module_that_is_being_imported_is_not_there_yet(shop: types.ModuleType) -> None:
    """Its names may still be missing, or about to be replaced."""
    shop.client = Client
    shop.__spec__ = types.SimpleNamespace(_initializing=True)  # type: ignore[assignment]  # as importlib marks it
    assert "has not imported shop yet" in refusal("shop:client")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "it gave None"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: sys.exit(3), "SystemExit: 3"),
    ],
)
def test_what_cannot_be_taken_says_why(shop: types.ModuleType, given: object, said: str) -> None:
    """The application's code may raise anything; none of it goes further."""
    shop.client = given
    assert refusal("shop:client").startswith(f"shop:client: {said}")


def test_a_name_that_is_not_there_says_so(shop: types.ModuleType) -> None:
    """It may come yet."""
    assert "no attribute 'client'" in refusal("shop:client")


@pytest.mark.parametrize("text", ["", "shop", "shop:", ":client", "shop:client()", "shop.:client", "a b:c"])
def test_anything_else_is_no_reference(text: str) -> None:
    """The configuration says so at its place."""
    with pytest.raises(ValueError, match=r"^"):
        HostObject.from_text(text)


def in_child(reference: HostObject, **options: object) -> str:
    """The outcome of `take` in a forked child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            reference.take(**options)  # type: ignore[arg-type]  # handed through
            os.write(writer, b"taken")
        except SourceUnavailable as unavailable:
            os.write(writer, unavailable.reason.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        text = said.read().decode()
    os.waitpid(pid, 0)
    return text


def test_what_the_parent_has_taken_is_left_alone_in_a_forked_child(shop: types.ModuleType) -> None:
    """Its threads and sockets are the parent's; one that is made anew is fine."""
    client, reference = Client(), HostObject.from_text("shop:client")
    shop.client = client
    reference.take()
    assert "made before this process was forked" in in_child(reference)
    shop.client = Client
    assert "taken" == in_child(reference)


def test_an_object_that_knows_its_process_is_believed(shop: types.ModuleType) -> None:
    """An SDK may mend its client after a fork."""
    shop.client = Client()
    reference = HostObject.from_text("shop:client")
    reference.take()
    assert "taken" == in_child(reference, owner=lambda _: os.getpid())
    shop.client = Client()
    assert "made before" in in_child(reference, owner=lambda _: 1)
