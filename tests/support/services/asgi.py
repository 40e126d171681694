from work import work


def begin():
    pass


def end():
    pass


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        begin()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        end()
        await send({"type": "lifespan.shutdown.complete"})
    else:
        body = work().encode()
        head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
        await send(head)
        await send({"type": "http.response.body", "body": body})
