def post_fork(server, worker):
    from govern import govern

    govern()
