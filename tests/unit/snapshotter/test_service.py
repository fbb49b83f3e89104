from __future__ import annotations

from pathlib import Path

import grpc

from snapshotter import api, model
from snapshotter.api import snapshots_pb2
from snapshotter.api.generate import generate
from snapshotter.service import STATUS


def test_every_error_has_a_status_of_its_own() -> None:
    errors = {
        value
        for value in vars(model).values()
        if isinstance(value, type) and issubclass(value, model.SnapshotError)
    }
    assert errors - {model.SnapshotError} == set(STATUS)
    assert len(set(STATUS.values())) == len(STATUS)
    assert grpc.StatusCode.OK not in STATUS.values()


def test_the_kinds_have_the_numbers_of_the_api() -> None:
    for kind in model.Kind:
        assert snapshots_pb2.Kind.Value(kind.name) == kind


def test_messages_are_what_containerd_sends_byte_by_byte() -> None:
    # Written by hand after the protobuf encoding: field number << 3 | 2, length, bytes.
    wire = b"\x0a\x04thin\x12\x01k\x1a\x01p\x22\x06\x0a\x01a\x12\x011"
    request = snapshots_pb2.PrepareSnapshotRequest.FromString(wire)
    assert (request.snapshotter, request.key, request.parent) == ("thin", "k", "p")
    assert dict(request.labels) == {"a": "1"}
    assert request.SerializeToString() == wire


def test_the_generated_modules_are_those_of_the_proto_files(tmp_path: Path) -> None:
    generate(tmp_path)
    committed = Path(api.__file__).parent
    generated = sorted((tmp_path / "snapshotter/api").iterdir())
    assert {path.name for path in generated} == {p.name for p in committed.glob("*_pb2*")}
    for path in generated:
        assert path.read_text() == (committed / path.name).read_text(), (
            "run python -m snapshotter.api.generate"
        )
