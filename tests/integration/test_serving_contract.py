"""What a reader may expect of anything that serves a repository, tried on both of ours."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.support import sweep
from tests.support.servers import nginx, thinfs_serve
from tests.support.static_repository import StaticRepository, make_static_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

IMMUTABLE = "public, max-age=31536000, immutable"


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Client:
    """One keep-alive connection that sends paths exactly as they are given."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        self.connection.putrequest(method, path)
        for name, value in headers.items():
            self.connection.putheader(name.replace("_", "-"), value)
        self.connection.endheaders()
        response = self.connection.getresponse()
        return Answer(response.status, response.headers, response.read())


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> StaticRepository:
    return make_static_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module", params=["thinfs serve", "nginx"])
def url(
    request: pytest.FixtureRequest,
    repository: StaticRepository,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    if request.param == "thinfs serve":
        with thinfs_serve(repository.path) as (url, _):
            yield url
        return
    folder = sweep.make_folder("nginx")
    with nginx(repository.path, folder) as url:
        yield url
    sweep.sweep_folder(folder)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    client = Client(url)
    yield client
    client.connection.close()


def test_every_public_file_is_served_whole(client: Client, repository: StaticRepository) -> None:
    public = repository.objects | repository.records | repository.changing
    for path, body in public.items():
        answer = client.ask(f"/{path}")
        assert (answer.status, answer.body) == (200, body), path
        assert answer.headers["Content-Length"] == str(len(body))
        assert answer.headers["Accept-Ranges"] == "bytes"


def test_what_never_changes_may_be_kept_for_ever(
    client: Client, repository: StaticRepository
) -> None:
    for path in repository.objects | repository.records:
        assert client.ask(f"/{path}").headers["Cache-Control"] == IMMUTABLE
    for path in repository.changing:
        assert client.ask(f"/{path}").headers["Cache-Control"] == "no-cache"


def test_records_are_json_and_objects_are_bytes(
    client: Client, repository: StaticRepository
) -> None:
    types = [client.ask(f"/{path}").headers["Content-Type"] for path in repository.records]
    assert types == ["application/json"] * len(repository.records)
    types = [client.ask(f"/{path}").headers["Content-Type"] for path in repository.objects]
    assert types == ["application/octet-stream"] * len(repository.objects)


def test_head_answers_the_headers_of_get_without_a_body(
    client: Client, repository: StaticRepository
) -> None:
    path, body = next(iter(repository.objects.items()))
    answer = client.ask(f"/{path}", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(body))
    assert answer.headers["ETag"] == client.ask(f"/{path}").headers["ETag"]


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=10000-", 10000, 10239),
        ("bytes=-40", 10200, 10239),
        ("bytes=10239-99999", 10239, 10239),
    ],
)
def test_a_range_is_answered_with_exactly_its_bytes(
    client: Client, repository: StaticRepository, wanted: str, first: int, last: int
) -> None:
    path, body = next(iter(repository.objects.items()))
    answer = client.ask(f"/{path}", Range=wanted)
    assert (answer.status, answer.body) == (206, body[first : last + 1])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(body)}"


def test_a_range_behind_the_end_is_not_satisfiable(
    client: Client, repository: StaticRepository
) -> None:
    path, body = next(iter(repository.objects.items()))
    answer = client.ask(f"/{path}", Range=f"bytes={len(body)}-")
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(body)}"


def test_a_range_goes_on_only_with_the_same_file(
    client: Client, repository: StaticRepository
) -> None:
    path, body = next(iter(repository.objects.items()))
    tag = client.ask(f"/{path}").headers["ETag"]
    assert client.ask(f"/{path}", Range="bytes=5-", If_Range=tag).body == body[5:]
    other = client.ask(f"/{path}", Range="bytes=5-", If_Range='"another"')
    assert (other.status, other.body) == (200, body)


def test_a_file_that_the_client_has_is_not_sent_again(
    client: Client, repository: StaticRepository
) -> None:
    for path in [*repository.objects, *repository.changing]:
        tag = client.ask(f"/{path}").headers["ETag"]
        again = client.ask(f"/{path}", If_None_Match=f'"older", {tag}')
        assert (again.status, again.body) == (304, b"")
        assert again.headers["ETag"] == tag
        assert client.ask(f"/{path}", If_None_Match='"older"').status == 200


def test_what_belongs_to_writers_does_not_exist(
    client: Client, repository: StaticRepository
) -> None:
    for path in repository.private:
        answer = client.ask(f"/{path}")
        assert answer.status == 404, path
        assert b"private" not in answer.body


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/objects",
        "/objects/",
        "/objects/00/",
        "/oci/",
        "/favicon.ico",
        "/tmp/../index.sqlite",
        "/objects/../index.sqlite",
        "/objects/%2e%2e/index.sqlite",
        "/objects/..%2findex.sqlite",
        f"/layers/{'0' * 64}",
        f"/objects/00/{'0' * 64}",
    ],
)
def test_paths_that_name_nothing_public_are_not_found(client: Client, path: str) -> None:
    answer = client.ask(path)
    assert answer.status == 404
    assert b"private" not in answer.body


@pytest.mark.parametrize("path", ["/../../../etc/passwd", "/objects/\\..\\x", "/thinfs.json%00"])
def test_tricks_are_refused(client: Client, path: str) -> None:
    assert client.ask(path).status in {400, 404}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(client: Client, repository: StaticRepository, method: str) -> None:
    path, body = next(iter(repository.objects.items()))
    assert client.ask(f"/{path}", method=method, Content_Length="0").status == 405
    assert client.ask(f"/{path}").body == body


def test_links_are_not_followed(client: Client, repository: StaticRepository) -> None:
    name = "ab" * 32
    outside = repository.path.parent / "outside"
    outside.write_bytes(b"private")
    (repository.path / "layers" / name).unlink(missing_ok=True)
    (repository.path / "layers" / name).symlink_to(outside)
    answer = client.ask(f"/layers/{name}")
    assert answer.status in {403, 404}
    assert b"private" not in answer.body


def test_many_requests_share_one_connection(client: Client, repository: StaticRepository) -> None:
    path, body = next(iter(repository.objects.items()))
    client.ask("/thinfs.json")
    assert client.connection.sock is not None
    port = client.connection.sock.getsockname()[1]
    for _ in range(200):
        assert client.ask(f"/{path}").body == body
    assert client.connection.sock.getsockname()[1] == port


def test_what_is_published_later_is_there_at_once(
    client: Client, repository: StaticRepository
) -> None:
    path = "roots/" + "cd" * 32
    (repository.path / path).unlink(missing_ok=True)
    assert client.ask(f"/{path}").status == 404
    (repository.path / path).write_bytes(b"{}")
    assert client.ask(f"/{path}").body == b"{}"
