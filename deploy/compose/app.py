"""A small service that has something to do, and shows its metrics."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest, multiprocess


def app(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """WSGI."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/metrics":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return [generate_latest(registry)]
    return [f"{sum(number * number for number in range(200_000))}\n".encode()]
