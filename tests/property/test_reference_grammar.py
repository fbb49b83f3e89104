"""The grammar of image names, from the rules of the distribution project."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from thinfs.errors import UsageError
from thinfs.oci.naming import LayoutName, parse_name
from thinfs.oci.reference import Reference, parse_reference

ALPHANUMERIC = string.ascii_lowercase + string.digits
words = st.text(ALPHANUMERIC, min_size=1, max_size=8)
separators = st.sampled_from([".", "_", "__", "-", "---"])
components = st.builds(lambda a, sep, b: a + sep + b, words, separators, words) | words
repositories = st.lists(components, min_size=1, max_size=4).map("/".join)
registries = st.one_of(
    st.just("docker.io"),
    st.just("localhost"),
    st.builds(lambda host, port: f"{host}:{port}", words, st.integers(1, 65535)),
    st.builds(lambda a, b: f"{a}.{b}", words, words),
    st.just("[2001:db8::1]:5000"),
)
tags = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=128).filter(
    lambda tag: tag[0] not in ".-"
)
digests = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:".__add__)


@st.composite
def references(draw: st.DrawFn) -> Reference:
    registry, repository = draw(registries), draw(repositories)
    if registry == "docker.io" and "/" not in repository:
        repository = f"library/{repository}"
    digest = draw(st.none() | digests)
    return Reference(
        registry, repository, draw(tags if digest is None else st.none() | tags), digest
    )


@given(references())
def test_canonical_and_familiar_forms_are_read_back_as_the_same(reference: Reference) -> None:
    assert parse_reference(reference.canonical) == reference
    assert parse_reference(reference.familiar) == reference
    assert len(reference.familiar) <= len(reference.canonical)


@given(st.text(max_size=80) | st.text("ab/:@.-_A[]", max_size=30))
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    try:
        reference = parse_reference(text)
    except UsageError:
        return
    assert parse_reference(reference.canonical) == reference
    assert ".." not in reference.registry.split("/")
    assert not {"", ".", ".."} & set(reference.repository.split("/"))


@given(st.text("abc:/.", max_size=30), st.sampled_from(["oci", "oci-archive", "docker-archive"]))
def test_a_path_and_its_tag_are_all_that_was_written(rest: str, scheme: str) -> None:
    try:
        name = parse_name(f"{scheme}:{rest}", lambda _: False)
    except UsageError:
        assert rest == "" or rest.startswith(":")
        return
    assert isinstance(name, LayoutName)
    assert ":" not in str(name.path)
    parse_reference(name.image_name(None))
