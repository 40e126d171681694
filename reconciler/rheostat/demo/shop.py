"""A small busy service that knows nothing of Rheostat. It serves until its standard input is closed."""

import sys
import threading
import time


def price_basket() -> float:
    return sum(price * 1.19 for price in range(20_000))


def render_page() -> str:
    return "".join(f"<li>{price:.2f}</li>" for price in range(3_000))


def wait_for_payment() -> None:
    time.sleep(0.05)


def serve() -> None:
    while True:
        price_basket()
        render_page()
        # Leaves the machine something to do besides.
        time.sleep(0.01)


def collect_payments() -> None:
    while True:
        wait_for_payment()


if __name__ == "__main__":
    for work in (serve, collect_payments):
        threading.Thread(target=work, name=work.__name__, daemon=True).start()
    sys.stdin.read()
