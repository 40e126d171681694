import os
import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from work import work

dramatiq.set_broker(RedisBroker(url=f"unix://{os.path.abspath('redis.sock')}", middleware=[]))


@dramatiq.actor
def spin():
    # Its own standard output: dramatiq puts a pipe to its log in the place of Python's.
    os.write(1, f"worked {work()}\n".encode())


if __name__ == "__main__":
    for line in sys.stdin:
        for _ in range(int(line)):
            spin.send()
