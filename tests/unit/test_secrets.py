"""Secrets are never shown, wherever they came from."""

import copy
import json
import logging
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from rheostat import ConfigError
from rheostat._config.config import Config, load_config
from rheostat._report.journal import Journal
from rheostat.plugins import Secret, Url

Load = Callable[[str], Config]

DOCUMENT = """
version: 1
application: checkout
source: {{kind: yaml, path: flags.yaml}}
backend:
  kind: {kind}
  {options}
enabled: {{flag: on}}
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Config]:
    """Loads a configuration with these options of the backend."""

    def load(options: str, kind: str = "pyroscope", env: Mapping[str, str] | None = None) -> Config:
        path = tmp_path / "config.yaml"
        path.write_text(DOCUMENT.format(kind=kind, options=options))
        return load_config(path, env=env or {})

    return load


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        (Secret("hunter22"), "***"),
        (Secret(""), "***"),
        (Url("http://localhost:4040/a"), "http://localhost:4040/a"),
        (Url("http://user:hunter22@localhost:4040/x"), "http://***@localhost:4040/x"),
        (Url("http://hunter22@localhost"), "http://***@localhost"),
        (Url("user:hunter22@localhost"), "***@localhost"),
        (Url("http://user:hunter22@x@localhost"), "http://***@localhost"),
        (Url("http://user:hunt?er#22@localhost"), "http://***@localhost"),
    ],
)
def test_a_secret_shows_as_a_mask(secret: Secret, shown: str) -> None:
    """However it is printed; of a URL only the user part is hidden."""
    kind = type(secret).__name__
    assert (shown, shown, f"{kind}({shown!r})") == (str(secret), f"{secret}", repr(secret))
    assert json.dumps(shown) == json.dumps(secret, default=str)


@pytest.mark.parametrize("password", ["hunter22/x", "x/hunter22", "x://hunter22", "hunter22://x", "8080/hunter22"])
def test_a_password_with_a_slash_in_it_is_hidden_too(password: str) -> None:
    """A password that ought to have been percent-encoded is still a password."""
    assert "hunter22" not in str(Url(f"http://user:{password}@localhost:4040"))


def test_a_secret_gives_its_text_only_when_asked() -> None:
    """It is equal to one with the same text, and its text is there for the vendor."""
    assert "hunter22" == Secret("hunter22").reveal()
    assert {Secret("a")} == {Secret("a"), Secret("a")}
    assert Secret("a") != Secret("b")
    assert Secret("http://a") != Url("http://a")


@pytest.mark.parametrize("leave", [pickle.dumps, copy.deepcopy])
def test_a_secret_does_not_leave_the_process(leave: Callable[[Secret], object]) -> None:
    """Pickling it is an error, and so is a deep copy that would be pickled next."""
    with pytest.raises(TypeError, match="not pickled"):
        leave(Secret("hunter22"))


@pytest.mark.parametrize(
    ("options", "env"),
    [
        ("auth_token: hunter22", {}),
        ("auth_token: ${TOKEN}", {"TOKEN": "hunter22"}),
        ("auth_token: ${TOKEN:-hunter22}", {}),
        ("auth_token_file: token", {}),
        ("http_headers: {Authorization: Bearer hunter22}", {}),
        ("basic_auth_username: u\n  basic_auth_password: hunter22", {}),
        ("server_address: http://u:hunter22@localhost:4040", {}),
        ("server_address_file: address", {}),
    ],
)
@pytest.mark.parametrize("kind", ["pyroscope", "noop"])
def test_a_configuration_never_shows_its_secrets(
    load: Callable[..., Config], tmp_path: Path, kind: str, options: str, env: dict[str, str]
) -> None:
    """Not itself, not what it is wired to: error trackers show the repr of every local variable."""
    (tmp_path / "token").write_text("hunter22\n")
    (tmp_path / "address").write_text("http://u:hunter22@localhost:4040\n")
    config = load(options, kind, env)
    assert "hunter22" not in repr(config)
    assert "hunter22" not in repr(config.wire())


@pytest.mark.parametrize(
    "options",
    [
        "auth_token: hunter22",
        "http_headers: {X-Key: hunter22}",
        "basic_auth_username: u\n  basic_auth_password: hunter22",
        "server_address: http://u:hunter22@localhost:4040",
        "server_address: http://hunter22@localhost:4040",
        "http_headers: {Authorization: Bearer hunter22}",
    ],
)
def test_what_a_vendor_says_is_logged_without_the_secret(load: Callable[..., Config], options: str) -> None:
    """Texts of secret fields are masked in every record, also those that somebody else wrote."""
    messages = []

    class Memory:
        def write(self, level: int, event: str, message: str, fields: Mapping[str, object]) -> None:
            messages.append((message, fields))

    journal = Journal(Memory(), lambda: 0.0, load(options).secrets)
    journal.say(logging.WARNING, "start_failed", "401 for hunter22", reason="key hunter22")
    assert [("401 for ***", {"reason": "key ***"})] == messages


@pytest.mark.parametrize(
    "options",
    [
        "auth_token: [hunter22]",
        "auth_token: {a: hunter22}",
        'auth_token: "hunter22\\n"',
        "auth_token: hunter22\n  basic_auth_username: u",
        "auth_token: hunter22\n  auth_token_file: x",
        "basic_auth_password: hunter22",
        "http_headers: hunter22",
        "http_headers: [hunter22]",
        "http_headers: {A: {b: hunter22}}",
        "http_headers: {A B: hunter22}",
        'http_headers: {A: "hunter22\\u00e9"}',
        "server_address: http://u:hunter22@local host",
        "server_address: u:hunter22@localhost",
        "server_address: http://u:hunter22/x@localhost",
        "server_address: http://u:x://hunter22@localhost",
        "server_address: [hunter22]",
        "auth_tokn: hunter22",
        "auth_token: ${UNSET}hunter22",
        "auth_token: ${hunter22",
        "auth_token: hunter22: x",
    ],
)
def test_an_error_never_shows_the_secret(load: Callable[..., Config], options: str) -> None:
    """Whatever is wrong with a secret field, or with the file around it."""
    with pytest.raises(ConfigError) as caught:
        load(options)
    assert "hunter22" not in str(caught.value)
    assert "hunter22" not in repr(caught.value)


@pytest.mark.parametrize("first", list("*!&%@`|>{}[]\"'#,-?:~$\\"))
def test_a_secret_that_yaml_misunderstands_is_not_shown(load: Callable[..., Config], first: str) -> None:
    """A password without quotes may begin like an alias, a tag or a quotation; the error does not quote it."""
    for text in (f"{first}hunter22", f"{first} hunter22"):
        try:
            shown = str(load(f"auth_token: {text}").wire().backend.options)
        except ConfigError as error:
            shown = str(error)
        assert "hunter22" not in shown


def test_a_header_may_come_from_a_file(load: Callable[..., Config], tmp_path: Path) -> None:
    """Each value among secret headers has its twin, too."""
    (tmp_path / "token").write_text("Bearer hunter22\n")
    config = load("http_headers: {Authorization_file: token}")
    assert {"Authorization": "Bearer hunter22"} == config.wire().backend.options.headers()
