from __future__ import annotations

import io
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.model import Entry, EntryKind
from thinfs.convert.pipe import LayerPipe
from thinfs.convert.tarstream import clean_path, members, parse_time
from thinfs.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable


def tar_of(fill: Callable[[tarfile.TarFile], None], pax: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=pax, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        fill(tar)
    return buffer.getvalue()


def read(data: bytes) -> list[tuple[Entry, bytes]]:
    with LayerPipe([data], "layer") as pipe:
        return [(m.entry(), b"".join(m.body) if m.size else b"") for m in members(pipe)]


def only(info: tarfile.TarInfo, body: bytes = b"") -> Entry:
    def fill(tar: tarfile.TarFile) -> None:
        info.size = len(body)
        tar.addfile(info, io.BytesIO(body))

    [(entry, _)] = read(tar_of(fill))
    return entry


def info(name: str, kind: bytes = tarfile.REGTYPE, **values: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for key, value in values.items():
        setattr(made, key, value)
    return made


def test_a_file_keeps_mode_owner_time_and_bytes() -> None:
    made = info("./usr/bin/x", mode=0o6755, uid=70_000, gid=4_000_000_000, mtime=1_234_567_890)

    def fill(tar: tarfile.TarFile) -> None:
        made.size = 3
        tar.addfile(made, io.BytesIO(b"abc"))

    [(entry, body)] = read(tar_of(fill))
    assert (entry.path, body, entry.size) == (b"usr/bin/x", b"abc", 3)
    assert entry.mode == stat.S_IFREG | 0o6755
    assert (entry.uid, entry.gid) == (70_000, 4_000_000_000)
    assert entry.mtime_ns == 1_234_567_890_000_000_000


def test_times_are_exact_to_the_nanosecond() -> None:
    made = info("x", pax_headers={"mtime": "1700000000.123456789"})
    assert only(made).mtime_ns == 1_700_000_000_123_456_789


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        (tarfile.DIRTYPE, stat.S_IFDIR),
        (tarfile.FIFOTYPE, stat.S_IFIFO),
        (tarfile.CHRTYPE, stat.S_IFCHR),
        (tarfile.BLKTYPE, stat.S_IFBLK),
        (tarfile.SYMTYPE, stat.S_IFLNK),
    ],
)
def test_every_type_has_its_mode(kind: bytes, mode: int) -> None:
    assert stat.S_IFMT(only(info("x", kind, linkname="target")).mode) == mode


def test_devices_have_numbers_and_symlinks_targets() -> None:
    assert only(info("null", tarfile.CHRTYPE, devmajor=1, devminor=3)).rdev == (1, 3)
    assert only(info("l", tarfile.SYMTYPE, linkname="../../a//b")).target == b"../../a//b"


def test_hard_links_name_a_path_in_the_layer() -> None:
    entry = only(info("b", tarfile.LNKTYPE, linkname="./usr/a"))
    assert (entry.kind, entry.target) == (EntryKind.HARDLINK, b"usr/a")


def test_xattrs_keep_every_byte() -> None:
    value = b"\x01\x00\x00\x02\xff\xfe=\n" + bytes(range(256))
    made = info(
        "x",
        pax_headers={
            "SCHILY.xattr.security.capability": value.decode("utf-8", "surrogateescape"),
            "SCHILY.xattr.user.b": "2",
            "SCHILY.xattr.user.a": "1",
        },
    )
    assert only(made).xattrs == (
        (b"security.capability", value),
        (b"user.a", b"1"),
        (b"user.b", b"2"),
    )


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_need_not_be_utf8_nor_short(form: int) -> None:
    name = b"d/\xff\xfe" + b"n" * 200
    made = info(name.decode("utf-8", "surrogateescape"))
    [(entry, _)] = read(tar_of(lambda tar: tar.addfile(made), form))
    assert entry.path == name


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        ("usr/.wh.bin", EntryKind.WHITEOUT, b"usr/bin"),
        (".wh.bin", EntryKind.WHITEOUT, b"bin"),
        ("usr/.wh..wh..opq", EntryKind.OPAQUE, b"usr"),
        (".wh..wh..opq", EntryKind.OPAQUE, b""),
    ],
)
def test_whiteouts_are_recognised(name: str, kind: EntryKind, path: bytes) -> None:
    entry = only(info(name))
    assert (entry.kind, entry.path) == (kind, path)


@pytest.mark.parametrize("name", [".wh..wh.plnk", ".wh..wh.aufs", "a/.wh..wh.orph"])
def test_the_bookkeeping_of_aufs_is_passed_over(name: str) -> None:
    assert read(tar_of(lambda tar: tar.addfile(info(name)))) == []


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/../x", ".wh.", ".wh..", ".wh...", "a/.wh."]
)
def test_names_that_no_layer_may_have_are_refused(name: str) -> None:
    with pytest.raises(FormatError):
        read(tar_of(lambda tar: tar.addfile(info(name))))


def test_a_sparse_file_reads_with_its_holes() -> None:
    # GNU sparse 1.0 in pax headers: a map in front of the data
    size, data = 3 << 20, b"end!"
    sparse_map = f"1\n{size - len(data)}\n{len(data)}\n".encode().ljust(512, b"\0")

    def fill(tar: tarfile.TarFile) -> None:
        made = info(
            "sparse",
            pax_headers={
                "GNU.sparse.major": "1",
                "GNU.sparse.minor": "0",
                "GNU.sparse.name": "holes",
                "GNU.sparse.realsize": str(size),
            },
        )
        made.size = 512 + len(data)
        tar.addfile(made, io.BytesIO(sparse_map + data))
        tar.addfile(info("after"))

    (sparse, body), (after, _) = read(tar_of(fill))
    assert (sparse.path, sparse.size, after.path) == (b"holes", size, b"after")
    assert body == bytes(size - len(data)) + data


def test_a_body_that_is_not_read_is_skipped() -> None:
    def fill(tar: tarfile.TarFile) -> None:
        for name in ("a", "b"):
            made = info(name)
            made.size = 70_000
            tar.addfile(made, io.BytesIO(bytes(70_000)))

    with LayerPipe([tar_of(fill)], "layer") as pipe:
        assert [member.path for member in members(pipe)] == [b"a", b"b"]


def test_an_empty_blob_is_an_empty_layer() -> None:
    assert read(b"") == []
    assert read(bytes(1024)) == []


def test_a_stream_cut_inside_a_file_is_refused() -> None:
    def fill(tar: tarfile.TarFile) -> None:
        made = info("a")
        made.size = 70_000
        tar.addfile(made, io.BytesIO(bytes(70_000)))

    with pytest.raises(FormatError, match="ends in the middle"):
        read(tar_of(fill)[:60_000])


def test_an_extension_header_may_not_ask_for_unbounded_memory() -> None:
    made = info("x", tarfile.XHDTYPE)
    made.size = 1 << 33
    with pytest.raises(FormatError, match="extension header"):
        read(made.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


def test_bytes_that_are_no_tar_are_refused() -> None:
    with pytest.raises(FormatError, match="damaged tar"):
        read(b"this is not a tar stream" * 100)


def test_unknown_member_types_are_refused() -> None:
    with pytest.raises(FormatError, match="unknown tar member type"):
        only(info("x", b"Z"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("1.5", 1_500_000_000),
        ("-1.5", -1_500_000_000),
        ("1.0000000019", 1_000_000_001),
        ("-0.000000001", -1),
    ],
)
def test_pax_times_are_read_without_rounding(text: str, value: int) -> None:
    assert parse_time(text) == value


@pytest.mark.parametrize("text", ["", "x", "1e9", "nan", "1.x", "--1", "9" * 13, "\u0661"])
def test_times_that_are_no_numbers_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_time(text)


@given(st.lists(st.sampled_from([b"a", b"b.", b"..c", b".", b"", b"..", b"...", b"\xff"])))
def test_clean_paths_have_only_proper_components(parts: list[bytes]) -> None:
    try:
        path = clean_path(b"/".join(parts))
    except FormatError:
        assert b".." in parts
        return
    components = path.split(b"/") if path else []
    assert not {b"", b".", b".."} & set(components)
    if b".." not in parts:
        assert components == [part for part in parts if part not in {b"", b"."}]
