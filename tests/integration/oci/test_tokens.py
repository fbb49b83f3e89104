"""Bearer tokens: when they are asked for, kept and renewed."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.fake_registry import FakeRegistry, fake_registry
from thinfs.errors import TransportError
from thinfs.http import Client, Request, Response, client
from thinfs.oci.auth import CredentialStore
from thinfs.oci.tokens import Authorizer, DeniedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCOPE = "repository:app:pull"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as running:
        running.login = ("me", "pw")
        yield running


@pytest.fixture
def http() -> Iterator[Client]:
    with client(timeout_s=5) as made:
        yield made


def authorizer(
    fake: FakeRegistry, http: Client, tmp_path: Path, clock: Clock | None = None, **entry: str
) -> Authorizer:
    file = tmp_path / "config.json"
    login = entry or {"username": "me", "password": "pw"}
    file.write_text(json.dumps({"auths": {fake.address: login}}))
    return Authorizer(
        fake.address, secure=False, store=CredentialStore(file), client=http, clock=clock or Clock()
    )


def challenge(realm: str, scope: str = SCOPE) -> Response:
    header = f'Bearer realm="{realm}",service="fake",scope="{scope}"'
    return Response(401, headers={"WWW-Authenticate": header}, request=Request("GET", "http://x"))


def test_nothing_is_sent_before_it_is_asked_for(
    fake: FakeRegistry, http: Client, tmp_path: Path
) -> None:
    assert authorizer(fake, http, tmp_path).header(SCOPE) is None


# 0 means "unknown" to some servers: such a token is good for a minute
@pytest.mark.parametrize(("life_s", "renewed_s"), [(300, 290), (60, 50), (12, 6), (0, 50)])
def test_a_token_is_kept_until_shortly_before_it_expires(
    life_s: float, renewed_s: float, fake: FakeRegistry, http: Client, tmp_path: Path
) -> None:
    fake.token_life_s = life_s
    clock = Clock()
    auth = authorizer(fake, http, tmp_path, clock)
    assert auth.answer(challenge(f"{fake.url}/token"), SCOPE, None)
    first = auth.header(SCOPE)
    clock.now += renewed_s - 0.1
    assert auth.header(SCOPE) == first
    clock.now += 0.2
    assert auth.header(SCOPE) != first


def test_each_scope_has_a_token_of_its_own(
    fake: FakeRegistry, http: Client, tmp_path: Path
) -> None:
    auth = authorizer(fake, http, tmp_path)
    auth.answer(challenge(f"{fake.url}/token"), SCOPE, None)
    push = "repository:app:pull,push"
    assert auth.header(SCOPE) != auth.header(push)
    assert [seen.query["scope"] for seen in fake.seen] == [[SCOPE], [push]]


def test_a_scope_that_the_server_adds_is_asked_for_too(
    fake: FakeRegistry, http: Client, tmp_path: Path
) -> None:
    auth = authorizer(fake, http, tmp_path)
    auth.answer(challenge(f"{fake.url}/token", "repository:base:pull"), SCOPE, None)
    auth.header(SCOPE)
    assert fake.seen[0].query["scope"] == [SCOPE, "repository:base:pull"]


def test_many_threads_ask_for_one_token(fake: FakeRegistry, http: Client, tmp_path: Path) -> None:
    auth = authorizer(fake, http, tmp_path)
    auth.answer(challenge(f"{fake.url}/token"), SCOPE, None)
    got: list[str | None] = []
    threads = [threading.Thread(target=lambda: got.append(auth.header(SCOPE))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == 1
    assert len(fake.seen) == 1


def test_a_401_for_an_old_token_does_not_throw_the_new_one_away(
    fake: FakeRegistry, http: Client, tmp_path: Path
) -> None:
    auth = authorizer(fake, http, tmp_path)
    asked = challenge(f"{fake.url}/token")
    auth.answer(asked, SCOPE, None)
    new = auth.header(SCOPE)
    assert auth.answer(asked, SCOPE, "Bearer old")
    assert auth.header(SCOPE) == new


def test_a_stored_registry_token_is_used_as_it_is(
    fake: FakeRegistry, http: Client, tmp_path: Path
) -> None:
    auth = authorizer(fake, http, tmp_path, registrytoken="stored")
    auth.answer(challenge(f"{fake.url}/token"), SCOPE, None)
    assert auth.header(SCOPE) == "Bearer stored"
    assert fake.seen == []


@pytest.mark.parametrize("realm", ["", "token", "file:///etc/passwd", "ftp://x/y"])
def test_a_realm_that_is_no_server_is_refused(
    realm: str, fake: FakeRegistry, http: Client, tmp_path: Path
) -> None:
    auth = authorizer(fake, http, tmp_path)
    auth.answer(challenge(realm), SCOPE, None)
    with pytest.raises(DeniedError, match="names no token server"):
        auth.header(SCOPE)


def test_an_answer_that_is_no_token_is_an_error_that_does_not_show_it(
    fake: FakeRegistry, http: Client, tmp_path: Path
) -> None:
    fake.login = None
    digest = fake.put(b'{"token": "half')
    auth = authorizer(fake, http, tmp_path)
    auth.answer(challenge(f"{fake.url}/v2/app/blobs/{digest}"), SCOPE, None)
    with pytest.raises(TransportError, match="gave no token") as caught:
        auth.header(SCOPE)
    assert "half" not in str(caught.value)


@pytest.mark.parametrize("body", [b"{}", b'{"token": "a\\nb"}', b'{"token": "\\u00e9"}'])
def test_a_token_that_no_header_can_carry_is_refused(
    body: bytes, fake: FakeRegistry, http: Client, tmp_path: Path
) -> None:
    fake.login = None
    auth = authorizer(fake, http, tmp_path)
    auth.answer(challenge(f"{fake.url}/v2/app/blobs/{fake.put(body)}"), SCOPE, None)
    with pytest.raises(DeniedError, match="gave no token"):
        auth.header(SCOPE)


def test_a_token_server_that_fails_may_be_asked_again(
    fake: FakeRegistry, http: Client, tmp_path: Path
) -> None:
    fake.login, fake.faults = None, "5"
    url = f"{fake.url}/v2/app/blobs/{fake.put(b'{}')}"
    auth = authorizer(fake, http, tmp_path)
    auth.answer(challenge(url), SCOPE, None)
    with pytest.raises(TransportError, match="answered 503") as caught:
        auth.header(SCOPE)
    assert not isinstance(caught.value, DeniedError)
