"""Which repositories a node may read from."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinfs.config import RepositoryConfig, SourcesConfig
from thinfs.errors import UsageError
from thinfs.store.address import parse_address
from thinfs.store.allow import allowed_address, is_allowed

LOCAL = RepositoryConfig(path="/var/lib/thinfs/repository")
ALLOW = SourcesConfig(
    allow=[
        "https://good.example/images/",
        "http://[::1]:8080",
        "file:///srv/thinfs",
        "https://with.port:8443/",
    ]
)


@pytest.mark.parametrize(
    "url",
    [
        "https://good.example/images",
        "https://good.example/images/team/a",
        "https://GOOD.example:443/images//team",
        "http://[::1]:8080/anything",
        "file:///srv/thinfs",
        "file://localhost/srv/thinfs/two",
        "file:///var/lib/thinfs/repository",
        "https://with.port:8443/x",
    ],
)
def test_what_an_entry_names_and_what_lies_below_it_is_allowed(url: str) -> None:
    assert is_allowed(url, ALLOW, LOCAL)


@pytest.mark.parametrize(
    "url",
    [
        "https://good.example.evil.net/images",
        "https://good.example@evil.net/images",
        "https://user:secret@good.example/images",
        "https://evil.net#@good.example/images",
        "https://evil.net\\@good.example/images",
        "https://good.example/images-of-others",
        "https://good.example/imag",
        "https://good.example/images/../other",
        "https://good.example/images/%2e%2e/other",
        "https://good.example/images/..%2fother",
        "https://good.example/images/a%5c..%5cb",
        "https://good.example/images/%00",
        "https://good.example/images?x=1",
        "https://good.example/images\t",
        "https://good.example/im\nages",
        "https:good.example/images",
        "https:///good.example/images",
        "http://good.example/images",
        "https://good.example:8443/images",
        "https://good.example:0/images",
        "https://good.example:99999/images",
        "http://[::2]:8080/",
        "http://[::1]:8081/",
        "https://with.port/x",
        "file:///srv/thinfs2",
        "file:///srv/thinfs/../secret",
        "file:///srv",
        "file://evil.net/srv/thinfs",
        "file:/srv/thinfs",
        "ftp://good.example/images",
        "cvmfs://good.example/images",
        "/srv/thinfs",
        "https://gооd.example/images",  # noqa: RUF001 - look-alike letters are the point
        "",
        "https://good.example/images/" + "a" * 5000,
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    assert not is_allowed(url, ALLOW, LOCAL)
    with pytest.raises(UsageError) as refused:
        allowed_address(url, ALLOW, LOCAL)
    assert "\n" not in str(refused.value)


def test_the_refusal_says_what_to_add() -> None:
    with pytest.raises(UsageError, match=r'add "https://new\.example/x/" to allow in \[sources\]'):
        allowed_address("https://New.example:443/x/", ALLOW, LOCAL)


def test_the_local_repository_needs_no_entry_even_when_its_path_is_relative() -> None:
    relative = RepositoryConfig(path="some/../place")
    here = (Path.cwd() / "place").as_uri()
    assert is_allowed(f"{here}/x", SourcesConfig(), relative)
    assert not is_allowed("file:///", SourcesConfig(), relative)
    address = allowed_address("file:///var/lib/thinfs/repository/x", SourcesConfig(), LOCAL)
    assert address.path == b"/var/lib/thinfs/repository/x"


def test_a_malformed_entry_is_reported_and_not_ignored() -> None:
    with pytest.raises(UsageError, match="is not the address"):
        is_allowed("https://good.example/", SourcesConfig(allow=["good.example"]), LOCAL)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTPS://Good.Example:443/a%20b//c/", "https://good.example/a%20b/c"),
        ("http://[2001:DB8::1]:80", "http://[2001:db8::1]"),
        ("http://h:81/%C3%A9", "http://h:81/%C3%A9"),
        ("file://localhost/srv/x/", "file:///srv/x"),
    ],
)
def test_addresses_have_one_normal_form(url: str, normal: str) -> None:
    address = parse_address(url)
    assert address.url == normal
    assert parse_address(normal) == address
