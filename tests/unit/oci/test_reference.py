from __future__ import annotations

import pytest

from thinfs.errors import UsageError
from thinfs.oci.reference import Reference, parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("redis", "docker.io/library/redis:latest"),
        ("redis:4", "docker.io/library/redis:4"),
        ("bitnami/redis", "docker.io/bitnami/redis:latest"),
        ("docker.io/redis:4", "docker.io/library/redis:4"),
        ("index.docker.io/redis:4", "docker.io/library/redis:4"),
        ("docker.io/library/redis:4", "docker.io/library/redis:4"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:1", "localhost:5000/x:1"),
        ("host:5000/a/b/c", "host:5000/a/b/c:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("ghcr.io/Owner".lower() + "/app:v1.2_3-x", "ghcr.io/owner/app:v1.2_3-x"),
        ("MyHost/app", "MyHost/app:latest"),
        (f"redis@{DIGEST}", f"docker.io/library/redis@{DIGEST}"),
        (f"redis:4@{DIGEST}", f"docker.io/library/redis:4@{DIGEST}"),
        ("a.b/x__y/z--w.v_u", "a.b/x__y/z--w.v_u:latest"),
    ],
)
def test_short_forms_mean_what_they_mean_to_docker(text: str, canonical: str) -> None:
    assert parse_reference(text).canonical == canonical


@pytest.mark.parametrize(
    ("text", "familiar"),
    [
        ("docker.io/library/redis:4", "redis:4"),
        ("docker.io/bitnami/redis:4", "bitnami/redis:4"),
        ("quay.io/a/b", "quay.io/a/b:latest"),
        ("docker.io/localhost/x:1", "docker.io/localhost/x:1"),
        ("docker.io/library/a/b:1", "library/a/b:1"),
    ],
)
def test_the_familiar_form_is_the_shortest_that_means_the_same(text: str, familiar: str) -> None:
    reference = parse_reference(text)
    assert reference.familiar == familiar
    assert parse_reference(familiar) == reference


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "repository name"),
        ("Redis", "lower case"),
        ("redis:", "not a tag"),
        ("redis:" + "x" * 129, "not a tag"),
        ("redis@", "not a digest"),
        ("redis@sha256:abc", "not a digest"),
        ("redis@sha512:" + "0" * 128, "sha256:<64 hex"),
        ("a/../b", "repository name"),
        ("a//b", "repository name"),
        ("host:port/x", "not a registry host"),
        ("-host.com/x", "not a registry host"),
        ("redis\n", "repository name"),
        ("redis:4\n", "not a tag"),
        ("a" * 300, "longer than 255"),
        ("a" * 5000, "characters long"),
        ("0" * 64, "image ID"),
        ("https://docker.io/redis", "not a registry host"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_part_that_is_wrong(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_reference(text)


def test_the_thin_image_has_the_same_name_and_a_tag_that_says_so() -> None:
    assert parse_reference("redis:4").thin_tag() == "4-thin"
    assert parse_reference("redis:4").thin().canonical == "docker.io/library/redis:4-thin"
    assert parse_reference(f"redis:4@{DIGEST}").thin().canonical == "docker.io/library/redis:4-thin"
    assert parse_reference(f"redis@{DIGEST}").thin_tag() == "0123456789ab-thin"


def test_a_tag_that_leaves_no_room_for_the_suffix_is_refused() -> None:
    with pytest.raises(UsageError, match="too long"):
        Reference("docker.io", "library/redis", "x" * 124).thin_tag()
    assert len(Reference("docker.io", "library/redis", "x" * 123).thin_tag()) == 128
