import sys

from gevent import monkey
from gevent.pywsgi import WSGIServer


def patch():
    monkey.patch_all()


def serve(app):
    server = WSGIServer(("127.0.0.1", 0), app, log=None)
    server.start()
    print(f"http://127.0.0.1:{server.server_port}", file=sys.stderr, flush=True)
    server.serve_forever()
