from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest
import zstandard

from thinfs.convert.pipe import LayerPipe
from thinfs.errors import FormatError, IntegrityError, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BODY = bytes(range(256)) * 20_000


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def pieces(data: bytes, size: int = 7_919) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


SKIPPABLE = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"

PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "gzip in two members": lambda data: gzip.compress(data[:999]) + gzip.compress(data[999:]),
    "gzip with padding": lambda data: gzip.compress(data) + bytes(1_000),
    "zstd": zstd,
    "zstd in two frames": lambda data: zstd(data[:999]) + zstd(data[999:]),
    "zstd with skippable frames": lambda data: SKIPPABLE + zstd(data) + SKIPPABLE,
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("piece", [1, 7_919, 1 << 20])
def test_gives_the_tar_bytes_whatever_the_packing(packing: str, piece: int) -> None:
    body = BODY[: piece * 100]
    blob = PACKINGS[packing](body)
    with LayerPipe(pieces(blob, piece), "layer") as pipe:
        assert pipe.read(len(body) + 1) == body
        assert pipe.verify(digest(blob), digest(body), len(blob)) == len(body)


@pytest.mark.parametrize("packing", ["gzip", "gzip in two members", "zstd"])
def test_a_blob_cut_short_is_refused(packing: str) -> None:
    blob = PACKINGS[packing](BODY)
    cut = blob[:-20]
    with LayerPipe(pieces(cut), "layer") as pipe, pytest.raises((FormatError, IntegrityError)):
        pipe.verify(digest(cut), digest(BODY), len(cut))


def test_damaged_gzip_is_a_format_error() -> None:
    blob = bytearray(gzip.compress(BODY))
    blob[20:40] = bytes(20)
    with (
        LayerPipe(pieces(bytes(blob)), "layer") as pipe,
        pytest.raises(FormatError, match="damaged gzip"),
    ):
        pipe.read(len(BODY))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [("digest", "its digest is"), ("diff_id", "its diffID is"), ("size", "bytes arrived")],
)
def test_verify_names_what_is_wrong(wrong: str, message: str) -> None:
    blob = gzip.compress(BODY)
    said = {"digest": digest(blob), "diff_id": digest(BODY), "size": len(blob)}
    said[wrong] = 1 if wrong == "size" else digest(b"other")
    with (
        LayerPipe(pieces(blob), "layer") as pipe,
        pytest.raises(IntegrityError, match=message),
    ):
        pipe.verify(said["digest"], said["diff_id"], said["size"])  # type: ignore[arg-type]


def test_an_error_of_the_source_reaches_the_reader() -> None:
    def broken() -> Iterator[bytes]:
        yield BODY[:1000]
        raise TransportError("cut")

    with LayerPipe(broken(), "layer") as pipe:
        assert pipe.read(500) == BODY[:500]
        with pytest.raises(TransportError, match="cut"):
            pipe.read(1000)


def test_leaving_early_stops_the_thread() -> None:
    with LayerPipe(iter(lambda: bytes(1 << 20), None), "endless") as pipe:
        pipe.read(10)
    assert not [t for t in threading.enumerate() if t.name == "layer-pipe"]


def test_never_holds_more_than_a_few_blocks() -> None:
    given = 0

    def counted() -> Iterator[bytes]:
        nonlocal given
        for _ in range(200):
            given += 1
            yield bytes(1 << 20)

    with LayerPipe(counted(), "layer") as pipe:
        for wanted in range(1, 200):
            pipe.read(1 << 20)
            assert given <= wanted + 20


def test_tarfile_reads_members_of_every_size_modulo_512() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for size in (0, 1, 511, 512, 513, 1024, 1 << 20, (1 << 20) + 512):
            info = tarfile.TarInfo(f"file-{size}")
            info.size = size
            tar.addfile(info, io.BytesIO(bytes([size % 251]) * size))
    with LayerPipe(pieces(buffer.getvalue()), "layer") as pipe:
        tar = tarfile.TarFile.open(fileobj=pipe, mode="r:")  # type: ignore[call-overload]
        for info in tar:
            body = tar.extractfile(info)
            assert body.read() == bytes([info.size % 251]) * info.size
