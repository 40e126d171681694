import sys

import eventlet
from eventlet import wsgi


def patch():
    eventlet.monkey_patch()


def serve(app):
    socket = eventlet.listen(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{socket.getsockname()[1]}", file=sys.stderr, flush=True)
    wsgi.server(socket, app, log_output=False)
