from __future__ import annotations

import hashlib

import pytest

from thinfs.errors import UsageError
from thinfs.oci.model import Compression, MediaType, Platform, chain_id, layer_compression


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("Linux/AMD64", "linux/amd64"),
    ],
)
def test_platforms_have_one_normal_form(text: str, normal: str) -> None:
    assert str(Platform.parse(text)) == normal
    assert Platform.parse(normal) == Platform.parse(text)


@pytest.mark.parametrize("text", ["", "linux/", "linux/a/b/c", "linux/am d64", "/amd64", "linux/ä"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not of the form"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("wanted", "offered", "best"),
    [
        ("amd64", "linux/amd64", "linux/amd64"),
        ("amd64", "linux/arm64 linux/amd64", "linux/amd64"),
        ("amd64", "linux/amd64/v3", None),
        ("linux/amd64/v3", "linux/amd64 linux/amd64/v2", "linux/amd64/v2"),
        ("amd64", "linux/386", "linux/386"),
        ("amd64", "windows/amd64", None),
        ("linux/arm64/v8", "linux/arm/v7 linux/arm64", "linux/arm64"),
        ("arm64", "linux/arm/v6 linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/v7", "linux/arm/v5 linux/arm/v6 linux/arm64", "linux/arm/v6"),
        ("linux/arm/v6", "linux/arm/v7", None),
        ("riscv64", "linux/riscv64", "linux/riscv64"),
    ],
)
def test_the_best_platform_is_the_newest_variant_that_runs(
    wanted: str, offered: str, best: str | None
) -> None:
    found = Platform.parse(wanted).best_of([Platform.parse(each) for each in offered.split()])
    assert (str(found) if found else None) == best


def test_this_machine_runs_its_own_platform() -> None:
    host = Platform.host()
    assert host.os == "linux"
    assert host.best_of([host]) == host


def test_the_chain_id_is_that_of_the_specification() -> None:
    a, b, c = digest("a"), digest("b"), digest("c")
    assert chain_id([a]) == a
    assert chain_id([a, b]) == digest(f"{a} {b}")
    assert chain_id([a, b, c]) == digest(digest(f"{a} {b}") + f" {c}")


def test_every_layer_type_says_how_it_is_packed_and_other_types_are_no_layers() -> None:
    layers = {kind for kind in MediaType if ".layer." in kind or ".rootfs." in kind}
    assert {kind for kind in MediaType if layer_compression(kind) is not None} == layers
    assert layer_compression("application/vnd.oci.image.layer.v1.tar+zstd") is Compression.ZSTD
    assert layer_compression("application/vnd.oci.image.layer.v1.tar+gzip+encrypted") is None
