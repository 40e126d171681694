"""A flag source with a thread of its own, asked through the contract's methods."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from rheostat.plugins import NotReady, Reading, SourceUnavailable, ThreadedSource
from support.children import PATIENCE


class Product(ThreadedSource):
    """Answers what the test puts into `answer`, once per `interval`."""

    Options = dict

    def __init__(self, *, interval: float = 0.01, patience: float = PATIENCE) -> None:
        super().__init__("product", about="http://flags", interval=interval, patience=patience)
        self.answer: Callable[[], Reading] = lambda: Reading({"on": True})
        self.asked = 0

    def ask(self) -> Reading:
        self.asked += 1
        return self.answer()


@pytest.fixture
def product() -> Iterator[Product]:
    made = Product()
    yield made
    made.close()


def opened(product: Product) -> threading.Event:
    """Is set at each call of `changed`."""
    changed = threading.Event()
    product.open(changed.set)
    return changed


def fail(error: BaseException) -> Callable[[], Reading]:
    def answer() -> Reading:
        raise error

    return answer


def test_before_the_first_answer_it_is_not_ready(product: Product) -> None:
    """Nobody complains of that."""
    with pytest.raises(NotReady, match="http://flags: no answer yet"):
        product.read({"on": bool})


def test_changed_is_called_when_the_answer_differs_and_only_then(product: Product) -> None:
    """An equal answer of another type, such as 1 for true, is another."""
    changed = opened(product)
    assert changed.wait(PATIENCE)
    assert {"on": True} == product.read({"on": bool}).values
    changed.clear()
    before = product.asked
    while product.asked < before + 3:
        time.sleep(0.001)
    assert not changed.is_set()
    product.answer = lambda: Reading({"on": 1})
    assert changed.wait(PATIENCE)
    assert type(product.read({"on": bool}).values["on"]) is int
    assert ["on"] == [*product.known_flags()]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SourceUnavailable("HTTP 503"), "http://flags: HTTP 503"),
        (ValueError("no JSON"), "http://flags: ValueError: no JSON"),
        (SystemExit(3), "http://flags: SystemExit: 3"),
    ],
)
def test_what_ask_raises_is_the_reason_and_it_asks_again(product: Product, error: BaseException, reason: str) -> None:
    """The thread lives on, whatever it is; the reason says when it asks again."""
    product.answer = fail(error)
    changed = opened(product)
    assert changed.wait(PATIENCE)
    with pytest.raises(SourceUnavailable) as raised:
        product.read({"on": bool})
    assert reason == raised.value.reason
    assert raised.value.retry_at is not None
    changed.clear()
    product.answer = lambda: Reading({"on": False})
    assert changed.wait(PATIENCE)
    assert {"on": False} == product.read({"on": bool}).values


def test_it_asks_again_when_the_product_says(product: Product) -> None:
    """A product that limits its clients is left alone for as long as it wants."""
    at = time.monotonic() + 3600.0
    product.answer = fail(SourceUnavailable("HTTP 429", retry_at=at))
    assert opened(product).wait(PATIENCE)
    with pytest.raises(SourceUnavailable) as raised:
        product.read({"on": bool})
    assert at == raised.value.retry_at
    assert 1 == product.asked


def test_an_answer_that_never_comes_is_overdue() -> None:
    """It is noticed by who reads; close does not wait for it."""
    product, end = Product(patience=0.02), threading.Event()
    product.answer = lambda: Reading({"on": end.wait(PATIENCE)})
    opened(product)
    deadline = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < deadline
        with pytest.raises(SourceUnavailable) as raised:
            product.read({"on": bool})
        if not isinstance(raised.value, NotReady):
            break
    assert "http://flags: no answer within 0.02 s" == raised.value.reason
    began = time.monotonic()
    product.close()
    assert time.monotonic() - began < PATIENCE / 2
    end.set()
