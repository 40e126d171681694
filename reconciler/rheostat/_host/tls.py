"""What a client of a plug-in's own trusts, and shows, over TLS."""

import re
from typing import TYPE_CHECKING

from rheostat._host.forks import hold_off_forks
from rheostat._host.importing import import_apart

if TYPE_CHECKING:
    from ssl import SSLContext


def tls_context(ca: str = "", cert: str = "", key: str = "") -> "SSLContext":
    """For connections that are verified. `ca`, `cert` and `key` are paths of PEM files; without them the system's
    authorities are trusted, and no certificate is shown.

    Raises ValueError with what is wrong with the files.
    """
    ssl = import_apart("ssl")
    try:
        # A process that ends while certificates are loaded crashes.
        with hold_off_forks():
            context: SSLContext = ssl.create_default_context(cafile=ca or None)
            if cert:
                # Without a passphrase OpenSSL asks for one, at the terminal.
                context.load_cert_chain(cert, key or None, password="")
            return context
    except OSError as error:
        why = re.sub(r" \(_ssl\.c:\d+\)$", "", error.strerror or type(error).__name__)
        expected = "expected PEM, and a key that needs no passphrase"
        raise ValueError(f"the certificate files cannot be used: {why}; {expected}") from None
