"""Options that the Pyroscope backend refuses, because the agent would start and silently deliver nothing."""

from typing import Any

import pytest

from rheostat.plugins import Identity, InvalidOptions, PermanentError, Secret, Url
from rheostat_backends.pyroscope.backend import PyroscopeBackend, PyroscopeOptions

TOKEN = Secret("hunter22")


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:4040",
        "https://profiles-prod-001.grafana.net",
        "https://user:pa:ss%40@example.org:443/pyroscope/",
        "http://10.0.0.1:65535",
        "http://[::1]:4040/a?b=c#d",
        "http://pyroscope_1.svc",
    ],
)
def test_addresses_with_scheme_and_host_are_accepted(address: str) -> None:
    """Names, addresses, ports, paths and a user part."""
    assert address == PyroscopeOptions(server_address=Url(address)).server_address.reveal()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost:4040",
        "localhost",
        "//localhost",
        "http://",
        "http://:4040",
        "http:///push",
        "ftp://localhost",
        "http:/localhost",
        "http://localhost:",
        "http://localhost:0",
        "http://localhost:65536",
        "http://localhost:http",
        "http://local host",
        "http://localhost/a b",
        "http://localhost\n",
        "http://höst",
        " http://localhost",
        "http://a@b@host",
        "http://[::1",
        "http://localhost\0",
    ],
)
def test_an_address_the_agent_cannot_use_is_refused(address: str) -> None:
    """The agent takes these without a word, and one of them makes its thread panic."""
    assert {"server_address"} == blamed(server_address=Url(address))


@pytest.mark.parametrize(
    "options",
    [
        {"auth_token": TOKEN},
        {"basic_auth_username": "u", "basic_auth_password": TOKEN},
        {"http_headers": {"Authorization": Secret("Bearer x"), "X-Scope_1.a!": Secret("")}, "tenant_id": "team a"},
        {"tags": {"role": "api", "a.b_C9": "1.4 (é)"}},
    ],
)
def test_options_that_make_sense_are_accepted(options: dict[str, Any]) -> None:
    """One way of authenticating, well-formed headers and tags."""
    assert PyroscopeOptions(**options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"basic_auth_username": "u"}, {"basic_auth_password"}),
        ({"basic_auth_password": TOKEN}, {"basic_auth_password"}),
        ({"basic_auth_username": "u", "basic_auth_password": Secret("")}, {"basic_auth_password"}),
        ({"auth_token": Secret("")}, {"auth_token"}),
        ({"auth_token": Secret("a\nb")}, {"auth_token"}),
        ({"auth_token": Secret("é")}, {"auth_token"}),
        ({"auth_token": TOKEN, "http_headers": {"authorization": TOKEN}}, {"auth_token"}),
        ({"auth_token": TOKEN, "basic_auth_username": "u", "basic_auth_password": TOKEN}, {"auth_token"}),
        (
            {"http_headers": {"Authorization": TOKEN}, "basic_auth_username": "u", "basic_auth_password": TOKEN},
            {"basic_auth_password"},
        ),
        ({"http_headers": {"": TOKEN}}, {"http_headers"}),
        ({"http_headers": {"X Y": TOKEN}}, {"http_headers"}),
        ({"http_headers": {"X-Y": Secret("a\r\nInjected: b")}}, {"http_headers"}),
        ({"http_headers": {"X-Y": Secret("a\0")}}, {"http_headers"}),
        ({"tenant_id": "a\nb"}, {"tenant_id"}),
        ({"tags": {"service_name": "x"}}, {"tags"}),
        ({"tags": {"profiling_mode": "x"}}, {"tags"}),
        ({"tags": {"a-b": "x"}}, {"tags"}),
        ({"tags": {"": "x"}}, {"tags"}),
        ({"tags": {"role": ""}}, {"tags"}),
        ({"tags": {"role": "a\nb"}}, {"tags"}),
        ({"server_address": Url(""), "tenant_id": "\n", "tags": {"": ""}}, {"server_address", "tenant_id", "tags"}),
    ],
)
def test_options_the_agent_would_take_silently_are_refused(options: dict[str, Any], expected: set[str]) -> None:
    """Half a credential, two of them, injected headers and tags the server cannot keep; all at once, by field."""
    assert expected == blamed(**options)


def test_a_refusal_shows_no_secret() -> None:
    """The error tells what was expected, and never what a secret field held."""
    with pytest.raises(InvalidOptions) as caught:
        PyroscopeOptions(
            server_address=Url("http://u:hunter22@"),
            auth_token=Secret("hunter22\n"),
            http_headers={"A": Secret("hunter22\n")},
        )
    assert {"server_address", "auth_token", "http_headers"} == set(caught.value.expected)
    assert "hunter22" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("tags", [{"service_name": "x"}, {"a-b": "x"}, {"role": ""}])
def test_the_deployments_tags_are_checked_too(tags: dict[str, str]) -> None:
    """Tags from the configuration's top or from the launcher are refused for good, not retried."""
    with pytest.raises(PermanentError, match="tags: expected"):
        PyroscopeBackend(PyroscopeOptions(), Identity("checkout", "web-1", tags, 1))


def blamed(**options: Any) -> set[str]:
    with pytest.raises(InvalidOptions) as caught:
        PyroscopeOptions(**options)
    return set(caught.value.expected)
