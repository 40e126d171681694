import os
import time


def work():
    # Of processor time: on a busy machine a span of time alone may hold no sample.
    until = time.thread_time() + 0.15
    while time.thread_time() < until:
        sum(range(100))
    return str(os.getpid())
