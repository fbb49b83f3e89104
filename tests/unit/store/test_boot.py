from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinfs.errors import FormatError
from thinfs.store.boot import (
    BOOT_VERSION,
    MAX_BOOT_BYTES,
    BootContent,
    BootExtent,
    BootObject,
    BootRecord,
    parse_boot,
    render_boot,
)
from thinfs.store.layout import MAX_METADATA_BYTES, MAX_OBJECT_BYTES

A, B = "a" * 64, "b" * 64
SOUND = BootRecord(
    version=BOOT_VERSION,
    metadata=BootContent(A, 8192, (BootExtent(0, 4096, 0, 0), BootExtent(4096, 4096, 0, 4096))),
    objects=(BootObject(A, 8192, 99), BootObject(B, 100, 50)),
    contents=(BootContent(B, 300, (BootExtent(0, 50, 1, 0), BootExtent(200, 50, 1, 50))),),
    order=(0, 1),
)


def values() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(render_boot(SOUND))
    return found


def test_a_boot_record_comes_back_as_it_was_written() -> None:
    assert parse_boot(render_boot(SOUND), "x") == SOUND


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["version"], 2),
        (["metadata", 1], MAX_METADATA_BYTES + 1),
        (["metadata", 1], 0),
        (["metadata", 0], "A" * 64),
        (["metadata", 2, 1, 0], 4095),  # overlaps
        (["metadata", 2, 1, 1], 4097),  # leaves its object, and the content
        (["metadata", 2, 0, 2], 2),  # an object that is not listed
        (["objects", 0, 1], MAX_OBJECT_BYTES + 1),
        (["objects", 1, 1], 99),  # an extent leaves it
        (["objects", 1, 2], 0),
        (["contents", 0, 1], 249),  # an extent ends behind it
        (["contents", 0, 2, 0, 1], 0),
        (["contents", 0, 2, 0, 0], -1),
        (["contents", 0, 2, 1, 3], 51),
        (["contents", 0, 0], "../../etc/passwd"),
        (["order", 0], 2),
        (["order", 0], -1),
        (["order"], None),
        (["objects"], {}),
    ],
)
def test_what_contradicts_itself_is_refused(path: list[str | int], value: object) -> None:
    found: Any = values()
    here = found
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    with pytest.raises(FormatError, match="boot record of x"):
        parse_boot(json.dumps(found).encode(), "boot record of x")


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{}", b"[" * 100_000, b"null"])
def test_what_is_no_boot_record_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="is not a boot record"):
        parse_boot(data, "x")


def test_a_record_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(FormatError, match="more than"):
        parse_boot(bytes(MAX_BOOT_BYTES + 1), "x")


@given(st.binary(max_size=40), st.integers(0, 600))
def test_damage_anywhere_is_refused_or_gives_a_record_that_is_sound(patch: bytes, at: int) -> None:
    data = render_boot(SOUND)
    at %= len(data)
    try:
        record = parse_boot(data[:at] + patch + data[at + len(patch) :], "x")
    except FormatError:
        return
    for content in (record.metadata, *record.contents):
        for extent in content.extents:
            assert extent.offset + extent.length <= content.size
            assert extent.object_offset + extent.length <= record.objects[extent.object].size
