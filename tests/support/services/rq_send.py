import sys

import work
from redis import Redis
from rq import Queue

queue = Queue(connection=Redis(unix_socket_path="redis.sock"))
for line in sys.stdin:
    for _ in range(int(line)):
        queue.enqueue(work.spin)
