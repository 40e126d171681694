import threading

from work import work


def app(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        threading.Event().wait(60)
    if environ["PATH_INFO"] == "/patch":
        import green

        green.patch()
    body = work().encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
