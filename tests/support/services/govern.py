"""As an application would govern itself: JSON on stderr, so that the lines look as under the launcher."""

import json
import logging
import os

import rheostat


class OnStderr(logging.Handler):
    def emit(self, record):
        own = {name[9:]: each for name, each in vars(record).items() if name.startswith("rheostat_")}
        line = {**own, "pid": record.process, "level": record.levelname, "message": record.getMessage()}
        os.write(2, (json.dumps(line, default=str) + "\n").encode())


def govern():
    log = logging.getLogger("rheostat")
    log.setLevel("INFO")
    log.propagate = False
    log.disabled = False
    log.handlers[:] = [OnStderr()]
    return rheostat.start("rheostat.yaml")
