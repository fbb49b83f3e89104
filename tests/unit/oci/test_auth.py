from __future__ import annotations

import base64
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from thinfs.errors import StoreError, UsageError
from thinfs.oci.auth import (
    ANONYMOUS,
    Credentials,
    CredentialStore,
    default_docker_config,
    parse_challenges,
)

if TYPE_CHECKING:
    from pathlib import Path


def encoded(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode()


def store(tmp_path: Path, config: Any) -> CredentialStore:
    file = tmp_path / "config.json"
    file.write_text(config if isinstance(config, str) else json.dumps(config))
    return CredentialStore(file)


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper that writes down what it is asked; its answer is in ``answer``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "docker-credential-test"
    program.write_text(
        f'#!/bin/sh\necho "$1" > {folder}/asked\ncat >> {folder}/asked\n'
        f"cat {folder}/answer\nexit $(cat {folder}/status)\n"
    )
    program.chmod(0o755)
    (folder / "status").write_text("0")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.mark.parametrize(
    "key", ["r.example", "https://r.example", "http://r.example/v1/", "R.Example"]
)
def test_logins_are_found_in_every_form_that_tools_write(key: str, tmp_path: Path) -> None:
    auths = {"auths": {"other": {"auth": encoded("x:y")}, key: {"auth": encoded("me:a:b")}}}
    assert store(tmp_path, auths).find("r.example") == Credentials("me", "a:b")


@pytest.mark.parametrize("authority", ["registry-1.docker.io", "docker.io"])
def test_docker_hubs_login_is_kept_under_its_old_address(authority: str, tmp_path: Path) -> None:
    auths = {"auths": {"https://index.docker.io/v1/": {"username": "me", "password": "pw"}}}
    assert store(tmp_path, auths).find(authority) == Credentials("me", "pw")


def test_a_login_is_for_its_own_port_only(tmp_path: Path) -> None:
    config = {"auths": {"r.example:5000": {"auth": encoded("me:pw")}}}
    assert not store(tmp_path, config).find("r.example")
    assert not store(tmp_path, config).find("r.example:5001")
    assert store(tmp_path, config).find("r.example:5000")


def test_without_a_file_everyone_is_anonymous(tmp_path: Path) -> None:
    assert CredentialStore(tmp_path / "missing").find("r.example") == ANONYMOUS


def test_identity_and_registry_tokens_are_read(tmp_path: Path) -> None:
    auths = {"r": {"auth": encoded("me:"), "identitytoken": "t"}, "s": {"registrytoken": "u"}}
    found = store(tmp_path, {"auths": auths})
    assert found.find("r") == Credentials("me", "", identity_token="t")
    assert found.find("s").registry_token == "u"


@pytest.mark.parametrize("config", ["", "[]", '{"auths": 5}', '{"auths": {"r": {"auth": 5}}}'])
def test_a_malformed_file_is_a_usage_error(config: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a Docker configuration"):
        store(tmp_path, config).find("r")


def test_a_malformed_auth_does_not_show_itself(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        store(tmp_path, {"auths": {"r": {"auth": "$secret$"}}}).find("r")
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_secrets_are_not_part_of_a_repr() -> None:
    shown = repr(Credentials("me", "secret1", "secret2", "secret3"))
    assert "me" in shown
    assert "secret" not in shown


def test_a_helper_is_asked_over_its_standard_input(tmp_path: Path, helper: Path) -> None:
    (helper / "answer").write_text('{"ServerURL": "x", "Username": "me", "Secret": "pw"}')
    config = {"credHelpers": {"r.example": "test"}, "credsStore": "never-called"}
    assert store(tmp_path, config).find("r.example") == Credentials("me", "pw")
    assert (helper / "asked").read_text() == "get\nr.example"


def test_the_store_is_asked_for_docker_hub_by_its_old_address(tmp_path: Path, helper: Path) -> None:
    (helper / "answer").write_text('{"Username": "<token>", "Secret": "t"}')
    found = store(tmp_path, {"credsStore": "test"}).find("registry-1.docker.io")
    assert found == Credentials(identity_token="t")
    assert (helper / "asked").read_text() == "get\nhttps://index.docker.io/v1/"


def test_what_a_helper_does_not_know_may_be_in_the_file(tmp_path: Path, helper: Path) -> None:
    (helper / "answer").write_text("credentials not found in native keychain\n")
    (helper / "status").write_text("1")
    config: dict[str, Any] = {"credsStore": "test"}
    assert store(tmp_path, config).find("r") == ANONYMOUS
    config["auths"] = {"r": {"auth": encoded("me:pw")}}
    assert store(tmp_path, config).find("r") == Credentials("me", "pw")


def test_a_helper_that_fails_is_an_error_with_its_name(tmp_path: Path, helper: Path) -> None:
    (helper / "answer").write_text("")
    (helper / "status").write_text("3")
    with pytest.raises(StoreError, match="docker-credential-test failed for r"):
        store(tmp_path, {"credsStore": "test"}).find("r")


def test_what_a_helper_says_is_not_shown_when_it_is_malformed(tmp_path: Path, helper: Path) -> None:
    (helper / "answer").write_text('{"Secret": "hidden"')
    with pytest.raises(StoreError, match="gave no credentials") as caught:
        store(tmp_path, {"credsStore": "test"}).find("r")
    assert "hidden" not in str(caught.value)


def test_a_helper_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="docker-credential-absent is not installed"):
        store(tmp_path, {"credsStore": "absent"}).find("r")


@pytest.mark.parametrize("name", ["../evil", "a b", "/bin/sh", "-x"])
def test_a_helper_is_a_name_not_a_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not the name of a credential helper"):
        store(tmp_path, {"credsStore": name}).find("r")


def test_the_file_is_where_docker_looks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", "/somewhere")
    assert str(default_docker_config()) == "/somewhere/config.json"
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setenv("HOME", "/home/me")
    assert str(default_docker_config()) == "/home/me/.docker/config.json"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Basic realm="a"', [("basic", {"realm": "a"})]),
        ("Basic", [("basic", {})]),
        (
            'Bearer realm="https://a/t?x=1",service="s",scope="repository:a/b:pull,push"',
            [
                (
                    "bearer",
                    {
                        "realm": "https://a/t?x=1",
                        "service": "s",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        (
            'Negotiate, Bearer Realm = "a \\"b\\"" , error=invalid_token,, Basic realm=x',
            [
                ("negotiate", {}),
                ("bearer", {"realm": 'a "b"', "error": "invalid_token"}),
                ("basic", {"realm": "x"}),
            ],
        ),
        ("", []),
        ('="x"', []),
        ('realm="x"', []),
        ('Basic realm="unclosed', [("basic", {})]),
    ],
)
def test_challenges_are_read(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert [(c.scheme, dict(c.parameters)) for c in parse_challenges(header)] == found


@pytest.mark.parametrize("piece", [" ", ",", "a", 'a="', "a ", "a=b,", '"\\', "a=a ,"])
def test_a_hostile_challenge_takes_no_time(piece: str) -> None:
    began = time.process_time()
    parse_challenges(piece * 100_000)
    assert time.process_time() - began < 1
