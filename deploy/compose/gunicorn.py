"""Hooks of gunicorn: the folder of the shared metrics, and the end of a worker."""

import os
from typing import Any

from prometheus_client import multiprocess


def on_starting(server: Any) -> None:
    os.makedirs(os.environ["PROMETHEUS_MULTIPROC_DIR"], exist_ok=True)


def child_exit(server: Any, worker: Any) -> None:
    """Its states are not to be counted any more."""
    multiprocess.mark_process_dead(worker.pid)
