"""The files within one upload of ddtrace's."""

import re
from typing import Final

from rheostat.plugins import Upload

_BOUNDARY: Final = re.compile(r'boundary="?([^";]+)')
_PROFILE: Final = re.compile(rb'filename="[^"]*\.pprof"', re.IGNORECASE)


def profile_of(upload: Upload) -> bytes:
    """The file in the format of pprof, compressed as ddtrace does it. Raises ValueError if there is none."""
    boundary = _BOUNDARY.search(upload.headers.get("content-type", ""))
    for part in upload.body.split(f"--{boundary[1]}".encode()) if boundary else ():
        head, separator, content = part.partition(b"\r\n\r\n")
        if separator and _PROFILE.search(head):
            return content.removesuffix(b"\r\n")
    raise ValueError("an upload of ddtrace's without a profile")
