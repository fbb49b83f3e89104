"""The registry client against a server that logs in, redirects and fails as it is told."""

from __future__ import annotations

import json
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import stamina
import trustme

from tests.support.fake_registry import FakeRegistry, fake_registry
from tests.support.processes import free_port
from thinfs.errors import IntegrityError, MissingError, TransportError, UsageError
from thinfs.oci.auth import CredentialStore
from thinfs.oci.hosts import Capability, ClientCertificate, Host
from thinfs.oci.model import Descriptor, MediaType
from thinfs.oci.push import Pusher
from thinfs.oci.reference import Reference
from thinfs.oci.registry import Registry
from thinfs.oci.tokens import DeniedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ATTEMPTS = 3
BLOB = bytes(range(256)) * 8192  # 2 MiB
LOGIN = ("me", "pass-word")


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Back-off takes no time."""
    with stamina.set_testing(True, attempts=ATTEMPTS, cap=True):
        yield


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as running:
        yield running


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    with fake_registry() as running:
        yield running


def image(fake: FakeRegistry, tag: str = "app:1") -> Descriptor:
    """An image of one layer, BLOB; gives the layer's descriptor."""
    layer = fake.put(BLOB)
    config = json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [layer]}}
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MediaType.OCI_MANIFEST,
        "config": {
            "mediaType": MediaType.OCI_CONFIG,
            "digest": fake.put(config),
            "size": len(config),
        },
        "layers": [{"mediaType": MediaType.OCI_LAYER, "digest": layer, "size": len(BLOB)}],
    }
    fake.put_manifest(tag, MediaType.OCI_MANIFEST, json.dumps(manifest).encode())
    return Descriptor(MediaType.OCI_LAYER, layer, len(BLOB))


def host(fake: FakeRegistry, **changes: Any) -> Host:
    return Host(f"{fake.url}/v2", **changes)


def login(tmp_path: Path, **by_authority: Any) -> CredentialStore:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": by_authority}))
    return CredentialStore(file)


@contextmanager
def client(
    tmp_path: Path, *hosts: Host, store: CredentialStore | None = None, **name: Any
) -> Iterator[Registry]:
    reference = Reference(**{"registry": "r.example", "repository": "app", "tag": "1", **name})
    store = store or CredentialStore(tmp_path / "none.json")
    registry = Registry(reference, hosts, store, timeout_s=5, attempts=ATTEMPTS)
    try:
        yield registry
    finally:
        registry.close()


def read(registry: Registry, descriptor: Descriptor) -> bytes:
    with registry.open_blob(descriptor) as chunks:
        return b"".join(chunks)


class TestNames:
    def test_a_tag_gives_an_image_and_its_layers(self, fake: FakeRegistry, tmp_path: Path) -> None:
        layer = image(fake)
        with client(tmp_path, host(fake)) as registry:
            (found,) = registry.images(None)
            assert found.manifest_digest == fake.tags["app:1"]
            assert found.reference == "r.example/app:1"
            assert read(registry, found.layers[0].descriptor) == BLOB
        assert found.layers[0].descriptor == layer

    def test_a_digest_decides_and_the_tag_is_not_asked_for(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        image(fake)
        digest = fake.tags["app:1"]
        with client(tmp_path, host(fake), tag="other", digest=digest) as registry:
            assert registry.images(None)[0].manifest_digest == digest
        assert not [seen for seen in fake.seen if seen.path.endswith("/other")]

    def test_a_registry_without_head_is_asked_with_get(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        image(fake)
        fake.head = False
        with client(tmp_path, host(fake)) as registry:
            assert registry.resolve().digest == fake.tags["app:1"]

    def test_what_does_not_exist_is_missing_and_asked_for_once(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        with (
            client(tmp_path, host(fake)) as registry,
            pytest.raises(MissingError, match=r"r\.example/app:1.*answered 404.*unknown"),
        ):
            registry.images(None)
        assert len(fake.requests("GET")) == 1

    @pytest.mark.parametrize("head", [True, False])
    def test_a_manifest_that_is_not_what_the_header_says_is_refused(
        self, fake: FakeRegistry, tmp_path: Path, head: bool
    ) -> None:
        image(fake)
        fake.head = head
        fake.digest_header = "sha256:" + "0" * 64
        with (
            client(tmp_path, host(fake)) as registry,
            pytest.raises((IntegrityError, MissingError)),
        ):
            registry.images(None)

    def test_an_answer_for_another_digest_is_refused(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        image(fake)
        fake.digest_header = "sha256:" + "0" * 64
        digest = fake.tags["app:1"]
        with (
            client(tmp_path, host(fake), tag=None, digest=digest) as registry,
            pytest.raises(IntegrityError, match="answers with sha256:000"),
        ):
            registry.resolve()

    def test_a_manifest_with_a_flipped_bit_is_refused(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        image(fake)
        fake.faults = ".w"
        with (
            client(tmp_path, host(fake)) as registry,
            pytest.raises(IntegrityError, match=f"expected {fake.tags['app:1']}, got"),
        ):
            registry.images(None)

    @pytest.mark.expects_log("longer.*trying again")
    def test_a_manifest_larger_than_allowed_is_not_read(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        fake.put_manifest("app:1", MediaType.OCI_MANIFEST, b" " * (5 << 20))
        fake.head = False
        with (
            client(tmp_path, host(fake)) as registry,
            pytest.raises(TransportError, match="longer"),
        ):
            registry.resolve()


class TestBlobs:
    @pytest.mark.expects_log("going on at byte")
    @pytest.mark.parametrize("fault", ["b", "s"])
    def test_a_broken_download_goes_on_where_it_broke(
        self, fault: str, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        layer = image(fake)
        fake.faults = fault
        with client(tmp_path, host(fake)) as registry:
            assert read(registry, layer) == BLOB
        first, second = fake.requests("GET", "/blobs/")
        assert "Range" not in first.headers
        assert 0 < int(second.headers["Range"].removeprefix("bytes=")[:-1]) <= len(BLOB) // 2

    @pytest.mark.expects_log("going on at byte")
    def test_a_server_without_ranges_sends_all_again_and_nothing_comes_twice(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        layer = image(fake)
        fake.faults, fake.ranges = "b", False
        with client(tmp_path, host(fake)) as registry:
            assert read(registry, layer) == BLOB

    @pytest.mark.expects_log("going on at byte")
    def test_a_download_that_breaks_again_and_again_fails(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        layer = image(fake)
        fake.faults = "b" * 20
        with client(tmp_path, host(fake)) as registry, pytest.raises(TransportError):
            read(registry, layer)
        assert len(fake.requests("GET", "/blobs/")) == ATTEMPTS

    @pytest.mark.expects_log("answered (503|429).*trying again")
    def test_a_busy_server_is_asked_again(self, fake: FakeRegistry, tmp_path: Path) -> None:
        layer = image(fake)
        fake.faults = "54"
        with client(tmp_path, host(fake)) as registry:
            assert read(registry, layer) == BLOB

    @pytest.mark.expects_log("answered 503.*trying again")
    def test_a_server_that_stays_busy_is_an_error_after_some_attempts(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        layer = image(fake)
        fake.faults = "5" * 20
        with client(tmp_path, host(fake)) as registry, pytest.raises(TransportError, match="503"):
            read(registry, layer)
        assert len(fake.requests("GET", "/blobs/")) == ATTEMPTS

    def test_more_bytes_than_promised_are_not_passed_on(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        layer = image(fake)
        short = Descriptor(layer.media_type, layer.digest, 1000)
        with (
            client(tmp_path, host(fake)) as registry,
            pytest.raises(IntegrityError, match="longer"),
        ):
            read(registry, short)

    def test_chunks_are_large_but_bounded(self, fake: FakeRegistry, tmp_path: Path) -> None:
        layer = image(fake)
        with client(tmp_path, host(fake)) as registry, registry.open_blob(layer) as chunks:
            sizes = [len(chunk) for chunk in chunks]
        assert max(sizes) <= 1 << 20
        assert min(sizes) >= 256 << 10

    def test_a_download_may_be_left_early(self, fake: FakeRegistry, tmp_path: Path) -> None:
        layer = image(fake)
        with client(tmp_path, host(fake)) as registry:
            with registry.open_blob(layer) as chunks:
                next(chunks)
            assert read(registry, layer) == BLOB

    def test_a_layer_that_registries_must_not_hold_is_explained(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        foreign = Descriptor(MediaType.DOCKER_FOREIGN_GZIP, "sha256:" + "1" * 64, 5)
        with client(tmp_path, host(fake)) as registry, pytest.raises(MissingError, match="Windows"):
            read(registry, foreign)


class TestMirrors:
    def test_a_dead_mirror_is_passed_over_and_asked_last_from_then_on(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        layer = image(fake)
        dead = Host(f"http://127.0.0.1:{free_port()}/v2", namespace="r.example")
        with client(tmp_path, dead, host(fake)) as registry:
            assert registry.images(None)
            assert read(registry, layer) == BLOB

    def test_a_mirror_without_the_image_is_passed_over(
        self, fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
    ) -> None:
        layer = image(fake)
        with client(tmp_path, host(other, namespace="r.example"), host(fake)) as registry:
            assert registry.images(None)
            assert read(registry, layer) == BLOB
        assert other.seen
        assert all(seen.query == {"ns": ["r.example"]} for seen in other.seen)
        assert all(seen.query == {} for seen in fake.seen)

    def test_a_mirror_with_a_damaged_manifest_is_passed_over(
        self, fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
    ) -> None:
        image(fake)
        image(other)
        other.faults = ".w"
        with client(tmp_path, host(other, namespace="r.example"), host(fake)) as registry:
            assert registry.images(None)[0].manifest_digest == fake.tags["app:1"]

    @pytest.mark.expects_log("going on at byte")
    def test_a_mirror_that_breaks_in_the_middle_is_relieved_by_the_next(
        self, fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
    ) -> None:
        layer = image(fake)
        image(other)
        other.faults = "bbbb"
        with client(tmp_path, host(other, namespace="r.example"), host(fake)) as registry:
            assert read(registry, layer) == BLOB
        assert len(other.requests("GET", "/blobs/")) == 1
        assert "Range" in fake.requests("GET", "/blobs/")[0].headers

    def test_the_word_of_the_registry_itself_counts_more_than_a_dead_mirror(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        dead = Host(f"http://127.0.0.1:{free_port()}/v2", namespace="r.example")
        with client(tmp_path, dead, host(fake)) as registry, pytest.raises(MissingError):
            registry.images(None)

    def test_a_server_is_asked_only_for_what_it_is_able_to(
        self, fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
    ) -> None:
        image(fake)
        image(other)
        pull = host(other, namespace="r.example", capabilities=frozenset({Capability.PULL}))
        resolve = host(fake, capabilities=frozenset({Capability.RESOLVE}))
        with client(tmp_path, pull, resolve) as registry:
            registry.images(None)
        assert {seen.method for seen in fake.seen} == {"HEAD"}
        assert {seen.method for seen in other.seen} == {"GET"}

    def test_headers_of_the_file_are_sent_to_their_host_only(
        self, fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
    ) -> None:
        layer = image(fake)
        other.put(BLOB)
        fake.redirect = other.url
        with client(tmp_path, host(fake, headers=(("X-Key", "k"),))) as registry:
            assert read(registry, layer) == BLOB
        assert fake.seen[-1].headers["X-Key"] == "k"
        assert "X-Key" not in other.seen[-1].headers


class TestLogins:
    @pytest.mark.parametrize("scheme", ["basic", "bearer"])
    def test_a_login_lets_in_and_is_asked_for_once(
        self, scheme: str, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        layer = image(fake)
        fake.login, fake.scheme = LOGIN, scheme
        store = login(tmp_path, **{fake.address: {"username": "me", "password": "pass-word"}})
        with client(tmp_path, host(fake), store=store) as registry:
            registry.images(None)
            assert read(registry, layer) == BLOB
        assert len(fake.requests("GET", "/token")) == (scheme == "bearer")

    def test_a_token_request_keeps_the_realms_own_query(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        image(fake)
        fake.login = LOGIN
        store = login(tmp_path, **{fake.address: {"username": "me", "password": "pass-word"}})
        with client(tmp_path, host(fake), store=store) as registry:
            registry.resolve()
        (asked,) = fake.requests("GET", "/token")
        assert asked.query == {"a": ["b"], "service": ["fake"], "scope": ["repository:app:pull"]}

    def test_an_identity_token_is_posted(self, fake: FakeRegistry, tmp_path: Path) -> None:
        image(fake)
        fake.login, fake.identity_token = LOGIN, "refresh-me"
        store = login(tmp_path, **{fake.address: {"identitytoken": "refresh-me"}})
        with client(tmp_path, host(fake), store=store) as registry:
            assert registry.images(None)
        (asked,) = fake.requests("POST", "/token")
        assert "Authorization" not in asked.headers

    def test_a_token_that_expires_in_the_middle_is_renewed(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        layer = image(fake)
        fake.login = LOGIN
        store = login(tmp_path, **{fake.address: {"username": "me", "password": "pass-word"}})
        with client(tmp_path, host(fake), store=store) as registry:
            registry.images(None)
            fake.expire_tokens()
            assert read(registry, layer) == BLOB
        assert len(fake.requests("GET", "/token")) == 2

    @pytest.mark.expects_log("going on at byte")
    def test_a_download_that_breaks_after_the_token_expired_goes_on(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        layer = image(fake)
        fake.login = LOGIN
        store = login(tmp_path, **{fake.address: {"username": "me", "password": "pass-word"}})
        with client(tmp_path, host(fake), store=store) as registry:
            registry.images(None)
            fake.faults = "b"
            with registry.open_blob(layer) as chunks:
                received = next(chunks)
                fake.expire_tokens()
                received += b"".join(chunks)
        assert received == BLOB

    @pytest.mark.parametrize("scheme", ["basic", "bearer"])
    @pytest.mark.parametrize("password", ["", "wrong-secret"])
    def test_who_is_not_let_in_is_told_to_log_in_without_the_secret(
        self, scheme: str, password: str, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        image(fake)
        fake.login, fake.scheme = LOGIN, scheme
        entry = {"username": "me", "password": password} if password else {}
        store = login(tmp_path, **{fake.address: entry})
        with (
            client(tmp_path, host(fake), store=store) as registry,
            pytest.raises(DeniedError, match="docker login") as caught,
        ):
            registry.images(None)
        assert "wrong-secret" not in str(caught.value)
        assert len(fake.seen) < 8

    def test_nothing_secret_goes_along_a_redirect_to_another_server(
        self, fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
    ) -> None:
        layer = image(fake)
        other.put(BLOB)
        fake.login, fake.redirect = LOGIN, other.url
        store = login(tmp_path, **{fake.address: {"username": "me", "password": "pass-word"}})
        with client(tmp_path, host(fake), store=store) as registry:
            assert read(registry, layer) == BLOB
        (arrived,) = other.seen
        assert "Authorization" not in arrived.headers
        assert "Cookie" not in arrived.headers

    def test_a_redirect_that_wants_a_login_gets_none(
        self, fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
    ) -> None:
        layer = image(fake)
        other.put(BLOB)
        other.login, other.scheme = LOGIN, "basic"
        fake.redirect = other.url
        store = login(
            tmp_path,
            **{each.address: {"username": "me", "password": "pass-word"} for each in (fake, other)},
        )
        with client(tmp_path, host(fake), store=store) as registry, pytest.raises(DeniedError):
            read(registry, layer)
        assert all("Authorization" not in seen.headers for seen in other.seen)

    def test_a_redirect_in_a_circle_ends(self, fake: FakeRegistry, tmp_path: Path) -> None:
        layer = image(fake)
        fake.redirect = fake.url
        with client(tmp_path, host(fake)) as registry, pytest.raises(TransportError, match="5 red"):
            read(registry, layer)

    def test_a_login_is_sent_to_the_server_it_is_stored_for_only(
        self, fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
    ) -> None:
        image(fake)
        fake.login, other.login = LOGIN, LOGIN
        store = login(tmp_path, **{fake.address: {"username": "me", "password": "pass-word"}})
        with client(
            tmp_path, host(other, namespace="r.example"), host(fake), store=store
        ) as registry:
            assert registry.images(None)
        assert all("Authorization" not in seen.headers for seen in other.seen)


class TestTls:
    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    def context(self, authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        return context

    @pytest.mark.expects_log("CERTIFICATE_VERIFY_FAILED.*trying again")
    def test_an_unknown_authority_is_refused_unless_it_is_named_or_checks_are_off(
        self, authority: trustme.CA, tmp_path: Path
    ) -> None:
        pem = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(pem))
        with fake_registry(self.context(authority)) as fake:
            image(fake)
            with (
                client(tmp_path, host(fake)) as registry,
                pytest.raises(TransportError, match="CERT"),
            ):
                registry.resolve()
            for good in (host(fake, ca=(pem,)), host(fake, skip_verify=True)):
                with client(tmp_path, good) as registry:
                    assert registry.resolve().digest == fake.tags["app:1"]

    def test_a_client_certificate_is_shown(self, authority: trustme.CA, tmp_path: Path) -> None:
        pem, pair = tmp_path / "ca.pem", tmp_path / "pair.pem"
        authority.cert_pem.write_to_path(str(pem))
        authority.issue_cert("me").private_key_and_cert_chain_pem.write_to_path(str(pair))
        context = self.context(authority)
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
        with fake_registry(context) as fake:
            image(fake)
            mine = host(fake, ca=(pem,), client=(ClientCertificate(pair),))
            with client(tmp_path, mine) as registry:
                assert registry.resolve().digest == fake.tags["app:1"]

    def test_a_file_that_is_no_certificate_is_a_usage_error(self, tmp_path: Path) -> None:
        bad = tmp_path / "bad.pem"
        bad.write_text("nothing")
        with (
            pytest.raises(UsageError, match=r"bad\.pem"),
            client(tmp_path, Host("https://x/v2", ca=(bad,))),
        ):
            pass

    def test_logins_for_a_tls_registry_do_not_leave_by_an_open_wire(
        self, authority: trustme.CA, tmp_path: Path
    ) -> None:
        with fake_registry(self.context(authority)) as fake:
            fake.login = LOGIN
            address = fake.url
            fake.url = "http://token.example"
            store = login(tmp_path, **{fake.address: {"username": "me", "password": "pass-word"}})
            with (
                client(tmp_path, Host(f"{address}/v2", skip_verify=True), store=store) as registry,
                pytest.raises(DeniedError, match="without TLS"),
            ):
                registry.resolve()


class TestPush:
    def blobs(self) -> tuple[list[tuple[Descriptor, bytes]], Descriptor]:
        made = FakeRegistry()
        image(made)
        (digest,) = made.manifests
        media_type, data = made.manifests[digest]
        root = Descriptor(media_type, digest, len(data))
        blobs = [
            (Descriptor("application/x", name, len(body)), body)
            for name, body in made.blobs.items()
        ]
        return [*blobs, (root, data)], root

    def push(
        self, fake: FakeRegistry, tmp_path: Path, store: CredentialStore | None = None
    ) -> None:
        reference = Reference("r.example", "team/app", "new")
        store = store or CredentialStore(tmp_path / "none.json")
        pusher = Pusher(reference, [host(fake)], store, timeout_s=5, attempts=ATTEMPTS)
        try:
            pusher.push(*self.blobs())
        finally:
            pusher.close()

    def test_what_was_pushed_can_be_pulled(self, fake: FakeRegistry, tmp_path: Path) -> None:
        self.push(fake, tmp_path)
        with client(tmp_path, host(fake), repository="team/app", tag="new") as registry:
            (found,) = registry.images(None)
            assert read(registry, found.layers[0].descriptor) == BLOB

    def test_blobs_that_are_there_are_not_sent_again(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        self.push(fake, tmp_path)
        sent = len(fake.requests("POST"))
        self.push(fake, tmp_path)
        assert sent == 2
        assert len(fake.requests("POST")) == sent

    @pytest.mark.parametrize("scheme", ["basic", "bearer"])
    def test_pushing_logs_in_for_pushing(
        self, scheme: str, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        fake.login, fake.scheme = LOGIN, scheme
        store = login(tmp_path, **{fake.address: {"username": "me", "password": "pass-word"}})
        self.push(fake, tmp_path, store)
        assert fake.tags["team/app:new"]

    def test_a_registry_that_stored_other_bytes_is_not_believed(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        fake.digest_header = "sha256:" + "0" * 64
        with pytest.raises(IntegrityError, match="stored sha256:000"):
            self.push(fake, tmp_path)

    def test_a_registry_that_takes_no_pushes_is_named(self, tmp_path: Path) -> None:
        pull_only = Host("https://x/v2", capabilities=frozenset({Capability.PULL}))
        with pytest.raises(MissingError, match=r"r\.example takes pushes"):
            Pusher(
                Reference("r.example", "a", "b"),
                [pull_only],
                CredentialStore(tmp_path),
                timeout_s=1,
                attempts=1,
            )
