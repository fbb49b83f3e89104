"""Logins for repositories."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

import pytest

from thinfs.errors import UsageError
from thinfs.store.address import parse_address
from thinfs.store.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXT = """
["https://images.example.org"]
bearer = "abc.def"

["http://10.0.0.5:8080/some/path"]
username = "node"
password = "pass:wörd"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "logins.toml"
    path.write_text(TEXT)
    return path


def header(credentials: Credentials, url: str) -> tuple[str, ...]:
    return credentials.header(parse_address(url))


def test_a_login_is_for_its_scheme_host_and_port(file: Path) -> None:
    credentials = Credentials(str(file))
    bearer = ("Authorization: Bearer abc.def",)
    assert header(credentials, "https://images.example.org/repo") == bearer
    assert header(credentials, "https://IMAGES.example.org:443") == bearer
    for other in (
        "http://images.example.org/",
        "https://images.example.org:444/",
        "https://images.example.org.evil/",
        "https://example.org/",
    ):
        assert header(credentials, other) == ()
    (basic,) = header(credentials, "http://10.0.0.5:8080/repo")
    kind, _, value = basic.removeprefix("Authorization: ").partition(" ")
    assert kind == "Basic"
    assert base64.b64decode(value).decode() == "node:pass:wörd"


def test_without_a_file_there_are_no_logins() -> None:
    assert header(Credentials(""), "https://images.example.org/") == ()


def test_a_renewed_token_is_used_at_once(file: Path) -> None:
    credentials = Credentials(str(file))
    fresh = file.with_suffix(".new")
    fresh.write_text(TEXT.replace("abc.def", "new.one"))
    fresh.replace(file)
    assert header(credentials, "https://images.example.org") == ("Authorization: Bearer new.one",)


@pytest.mark.parametrize("text", ["half a fi", None])
def test_a_file_that_is_damaged_later_changes_nothing_and_is_reported(
    file: Path, expect_log: Callable[[str], None], text: str | None
) -> None:
    expect_log("logins stay as they were")
    credentials = Credentials(str(file))
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
        os.utime(file, ns=(1, 1))
    assert header(credentials, "https://images.example.org") == ("Authorization: Bearer abc.def",)


@pytest.mark.parametrize(
    "text",
    [
        "[x",
        '["https://a"]\n',
        '["https://a"]\nbearer = "x"\nusername = "y"\n',
        '["https://a"]\nbearer = "x\\ny"\n',
        '["https://a"]\nusername = "a:b"\n',
        '["https://a"]\ntoken = "x"\n',
        '["a"]\nbearer = "x"\n',
        '["https://u@a"]\nbearer = "x"\n',
        "#" * (1 << 21),
    ],
)
def test_a_malformed_file_is_refused_and_named(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match=r"logins\.toml"):
        Credentials(str(file))


def test_a_refusal_shows_no_secret(file: Path) -> None:
    file.write_text('["https://a"]\nusername = "x"\nbearer = "verysecret"\n')
    with pytest.raises(UsageError) as caught:
        Credentials(str(file))
    assert "verysecret" not in str(caught.value)
