"""What is decided without asking a server: verdicts, waits, and where uploads go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from thinfs.errors import IntegrityError, MissingError, ThinfsError, TransportError
from thinfs.http import Request, Response
from thinfs.oci.auth import CredentialStore
from thinfs.oci.hosts import Host
from thinfs.oci.push import upload_address
from thinfs.oci.registry import verdict
from thinfs.oci.tokens import DeniedError
from thinfs.oci.transport import BusyError, Connection, RefusedError, check_status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, Connection]]:
    """A mirror ``m`` and the registry ``r`` itself."""
    hosts = {
        "m": Host("http://127.0.0.1:1/v2", namespace="r"),
        "r": Host("http://127.0.0.1:2/v2"),
    }
    made = {name: Connection(host, CredentialStore(tmp_path), 1) for name, host in hosts.items()}
    yield made
    for connection in made.values():
        connection.close()


@pytest.mark.parametrize(
    ("mirror", "registry", "kind"),
    [
        (TransportError("down"), MissingError("no"), MissingError),
        (MissingError("no"), TransportError("down"), BusyError),
        (IntegrityError("bad"), TransportError("down"), BusyError),
        (IntegrityError("bad"), MissingError("no"), MissingError),
        (MissingError("no"), DeniedError("who"), DeniedError),
        (DeniedError("who"), BusyError("later"), BusyError),
    ],
)
def test_the_registrys_own_last_word_counts_then_what_may_pass(
    mirror: ThinfsError,
    registry: ThinfsError,
    kind: type[ThinfsError],
    servers: dict[str, Connection],
) -> None:
    found = verdict([(servers["m"], mirror), (servers["r"], registry)])
    assert type(found) is kind
    assert str(registry) in str(found)


@pytest.mark.parametrize(("waits", "after_s"), [((3.0, 2.0), 2.0), ((None, 2.0), None)])
def test_the_shortest_wait_that_servers_ask_for_is_enough(
    waits: tuple[float | None, float | None],
    after_s: float | None,
    servers: dict[str, Connection],
) -> None:
    errors = [BusyError("later", wait) for wait in waits]
    found = verdict(list(zip(servers.values(), errors, strict=True)))
    assert isinstance(found, BusyError)
    assert found.after_s == after_s


def test_mirrors_without_an_answer_of_the_registry_are_summed_up(
    servers: dict[str, Connection],
) -> None:
    mirror = servers["m"]
    found = verdict([(mirror, MissingError("none")), (mirror, IntegrityError("bad"))])
    assert isinstance(found, IntegrityError)
    assert str(found) == "none; bad"


def answer(status: int, url: str = "https://r.example/v2/x", **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, headers=named, content=b"", request=Request("POST", url))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, MissingError),
        (401, DeniedError),
        (403, DeniedError),
        (408, BusyError),
        (429, BusyError),
        (500, BusyError),
        (503, BusyError),
        (400, RefusedError),
        (405, RefusedError),
        (418, RefusedError),
        (302, RefusedError),
    ],
)
def test_every_status_is_one_kind_of_error(status: int, kind: type[ThinfsError]) -> None:
    with pytest.raises(ThinfsError, match=f"pull: r.example answered {status}") as caught:
        check_status(answer(status), "pull", 200)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("text", "after_s"),
    [("7", 7.0), ("99999", 60.0), ("-1", None), ("", None), ("Wed, 21 Oct", None), ("²", None)],
)
def test_a_server_is_waited_for_as_it_asks_but_not_for_ever(
    text: str, after_s: float | None
) -> None:
    response = Response(
        429, headers=[(b"Retry-After", text.encode())], request=Request("GET", "http://x")
    )
    with pytest.raises(BusyError) as caught:
        check_status(response, "pull", 200)
    assert caught.value.after_s == after_s


@pytest.mark.parametrize(
    ("location", "address"),
    [
        ("/v2/x/blobs/uploads/1", f"https://r.example/v2/x/blobs/uploads/1?digest={DIGEST}"),
        ("https://up.example/1?a=b", f"https://up.example/1?a=b&digest={DIGEST}"),
        ("http://r.example/1", f"https://r.example/1?digest={DIGEST}"),
        ("http://r.example:80/1", f"https://r.example/1?digest={DIGEST}"),
    ],
)
def test_uploads_go_where_the_registry_says(location: str, address: str) -> None:
    assert upload_address(answer(202, Location=location), DIGEST, "push") == address


@pytest.mark.parametrize("headers", [{}, {"Location": "http://other.example/1"}])
def test_uploads_without_a_place_or_without_tls_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(RefusedError):
        upload_address(answer(202, **headers), DIGEST, "push")
