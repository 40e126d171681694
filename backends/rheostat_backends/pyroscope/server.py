"""Asking the Pyroscope server whether it takes what this process sends."""

from typing import Any, Final

from rheostat.plugins import BackendError, PermanentError, TemporaryError, import_vendor, tls_context
from rheostat_backends.pyroscope.backend import PyroscopeOptions
from rheostat_backends.pyroscope.session import REQUIREMENT

PUSH: Final = "/push.v1.PusherService/Push"


def refusal(options: PyroscopeOptions, timeout: float) -> BackendError | None:
    """Send one empty push with our credentials; gives why it is not taken."""
    # Only who looks pays for these imports.
    request, errors = (import_vendor(f"urllib.{each}", REQUIREMENT) for each in ("request", "error"))
    address = options.server_address
    scheme, _, rest = address.reveal().partition("://")
    url = f"{scheme}://{rest.rpartition('@')[2].rstrip('/')}{PUSH}"
    headers = {"Content-Type": "application/proto", **_sent_headers(options)}
    try:
        # Whoever waits for this thread gives up first.
        _opener(request, scheme).open(request.Request(url, b"", headers, method="POST"), timeout=timeout + 1.0).close()
    except errors.HTTPError as error:
        error.close()
        refused = ": are the credentials right?" if error.code in (401, 403) else ": is it Pyroscope?"
        return PermanentError(f"{address}: HTTP {error.code}{refused if error.code < 500 else ''}")
    except errors.URLError as error:
        return TemporaryError(f"{address}: {error.reason}")
    # Whatever answers there may speak anything.
    except Exception as error:
        return TemporaryError(f"{address}: {type(error).__name__}: {error}")
    return None


def _sent_headers(options: PyroscopeOptions) -> dict[str, str]:
    """The headers that the agent sends with each push."""
    # By now both are there: who looks has imported them with the rest.
    from base64 import b64encode
    from urllib.parse import unquote

    user, password = options.basic_auth_username, options.basic_auth_password
    basic = f"{user}:{password.reveal()}" if user and password is not None else ""
    if options.server_address.credentials:
        user, _, secret = options.server_address.credentials.partition(":")
        basic = f"{unquote(user)}:{unquote(secret)}"
    headers = options.headers()
    if basic:
        headers["Authorization"] = f"Basic {b64encode(basic.encode()).decode()}"
    if options.tenant_id:
        headers["X-Scope-OrgID"] = options.tenant_id
    return headers


def _opener(request: Any, scheme: str) -> Any:
    """One that follows no redirect: credentials are not for another host, and a login page is no Pyroscope."""
    opener = request.OpenerDirector()
    handlers = [request.ProxyHandler(), request.HTTPHandler(), request.HTTPErrorProcessor()]
    if scheme == "https":
        handlers.append(request.HTTPSHandler(context=tls_context()))
    for each in (*handlers, request.HTTPDefaultErrorHandler()):
        opener.add_handler(each)
    return opener
