from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from thinfs.errors import UsageError
from thinfs.oci.hosts import ALL_CAPABILITIES, Capability, hosts_for

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, registry: str, text: str) -> Path:
    directory = folder / registry
    directory.mkdir(parents=True)
    (directory / "hosts.toml").write_text(text)
    return directory


@pytest.mark.parametrize(
    ("registry", "url"),
    [
        ("docker.io", "https://registry-1.docker.io/v2"),
        ("quay.io", "https://quay.io/v2"),
        ("localhost", "http://localhost/v2"),
        ("localhost:5000", "http://localhost:5000/v2"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v2"),
        ("[::1]:5000", "http://[::1]:5000/v2"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000/v2"),
        ("localhost.example.org", "https://localhost.example.org/v2"),
    ],
)
def test_without_a_file_the_registry_itself_is_asked(
    registry: str, url: str, tmp_path: Path
) -> None:
    (host,) = hosts_for(registry, [tmp_path, tmp_path / "missing"])
    assert host.url == url
    assert host.capabilities == ALL_CAPABILITIES
    assert host.namespace == ""


def test_hosts_come_in_the_order_of_the_file_and_the_server_last(tmp_path: Path) -> None:
    write(
        tmp_path,
        "docker.io",
        """
        server = "https://registry-1.docker.io"
        [host."http://b.example:5000"]
          capabilities = ["pull", "resolve"]
        [host."https://a.example/mirror"]
          capabilities = ["pull"]
          skip_verify = true
        [host."https://a.example/mirror".header]
          X-One = "1"
          X-Two = ["2", "3"]
        """,
    )
    b, a, server = hosts_for("docker.io", [tmp_path])
    assert b.url == "http://b.example:5000/v2"
    assert b.capabilities == {Capability.PULL, Capability.RESOLVE}
    assert b.namespace == "docker.io"
    assert a.url == "https://a.example/mirror/v2"
    assert a.skip_verify
    assert a.headers == (("X-One", "1"), ("X-Two", "2"), ("X-Two", "3"))
    assert server.url == "https://registry-1.docker.io/v2"
    assert server.namespace == ""


def test_without_a_server_the_registry_itself_comes_last(tmp_path: Path) -> None:
    write(tmp_path, "quay.io", '[host."http://127.0.0.1:5000"]')
    assert [host.url for host in hosts_for("quay.io", [tmp_path])] == [
        "http://127.0.0.1:5000/v2",
        "https://quay.io/v2",
    ]


@pytest.mark.parametrize(
    ("server", "override", "url"),
    [
        ("example.org", False, "https://example.org/v2"),
        ("https://example.org/", False, "https://example.org/v2"),
        ("https://example.org/v2", False, "https://example.org/v2"),
        ("https://example.org/a/v2/", False, "https://example.org/a/v2"),
        ("https://example.org/a/v2x", False, "https://example.org/a/v2x/v2"),
        ("https://example.org/v2/a", True, "https://example.org/v2/a"),
        ("https://example.org", True, "https://example.org"),
        ("http://example.org:80/x//y", False, "http://example.org:80/x/y/v2"),
    ],
)
def test_addresses_end_in_the_api_version_unless_the_path_is_overridden(
    server: str, override: bool, url: str, tmp_path: Path
) -> None:
    text = f'[host."{server}"]\noverride_path = {str(override).lower()}'
    write(tmp_path, "r.example", text)
    assert hosts_for("r.example", [tmp_path])[0].url == url


def test_directories_are_tried_in_order_and_default_comes_last(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    write(first, "_default", 'server = "https://default.example"')
    write(second, "host_5000_", 'server = "https://second.example"')
    assert hosts_for("host:5000", [second, first])[0].url == "https://second.example/v2"
    assert hosts_for("host:5000", [first, second])[0].url == "https://default.example/v2"
    assert hosts_for("other", [second, first])[0].url == "https://default.example/v2"


def test_a_port_may_stand_in_the_directory_name_with_a_colon_too(tmp_path: Path) -> None:
    write(tmp_path, "host:5000", 'server = "https://x.example"')
    assert hosts_for("host:5000", [tmp_path])[0].url == "https://x.example/v2"


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ('ca = "a.pem"', {"a.pem"}),
        ('ca = ["a.pem", "b.pem"]', {"a.pem", "b.pem"}),
        ('client = "c.pem"', {"c.pem"}),
        ('client = ["c.pem", "d.pem"]', {"c.pem", "d.pem"}),
        ('client = [["c.pem", "c.key"], ["d.pem", ""]]', {"c.pem", "c.key", "d.pem"}),
    ],
)
def test_certificates_lie_beside_the_file_in_every_form(
    text: str, files: set[str], tmp_path: Path
) -> None:
    directory = write(tmp_path, "r.example", f'server = "https://r.example"\n{text}')
    for name in files:
        (directory / name).touch()
    (host,) = hosts_for("r.example", [tmp_path])
    paths = {*host.ca, *(c.certificate for c in host.client), *(c.key for c in host.client)}
    assert paths - {None} == {directory / name for name in files}


def test_a_directory_of_docker_without_hosts_toml_gives_its_certificates(tmp_path: Path) -> None:
    directory = tmp_path / "r.example"
    directory.mkdir()
    for name in ("ca.crt", "client.cert", "client.key", "lonely.cert"):
        (directory / name).touch()
    (host,) = hosts_for("r.example", [tmp_path])
    assert host.ca == (directory / "ca.crt",)
    assert [(c.certificate.name, c.key and c.key.name) for c in host.client] == [
        ("client.cert", "client.key")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "server = 5",
        "server = ",
        'server = "ftp://x"',
        'server = "https://"',
        'server = "https://user:secret@x"',
        'server = "https://x:99999"',
        '[host."https://x"]\ncapabilities = ["fly"]',
        '[host."https://x"]\nca = "missing.pem"',
        '[host."https://x"]\nclient = [["a", "b", "c"]]',
    ],
)
def test_a_wrong_file_is_a_usage_error_that_names_it(text: str, tmp_path: Path) -> None:
    directory = write(tmp_path, "r.example", text)
    with pytest.raises(UsageError, match=str(directory / "hosts.toml")):
        hosts_for("r.example", [tmp_path])


def test_fields_that_only_containerd_knows_are_left_to_it(tmp_path: Path) -> None:
    write(tmp_path, "r.example", 'server = "https://x"\ndial_timeout = "3s"\nnew = [1]')
    assert len(hosts_for("r.example", [tmp_path])) == 1
