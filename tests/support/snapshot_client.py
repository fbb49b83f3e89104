"""thin-snapshotter as a process of its own, and a gRPC client for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import grpc

from snapshotter.api import snapshots_pb2 as pb
from snapshotter.api.snapshots_pb2_grpc import SnapshotsStub
from tests.support.processes import Process, accepts

if TYPE_CHECKING:
    from collections.abc import Sequence

PROJECT = Path(__file__).parents[2]


class Client:
    """Calls with keys for arguments; use it as a context manager.

    Args:
        address: the snapshotter's socket.
    """

    def __init__(self, address: Path) -> None:
        # Channels of one process share connections unless told not to; a server that was
        # killed must not be remembered by the channel to the next one.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"unix:{address}", options=options)
        self.stub = SnapshotsStub(self._channel)  # type: ignore[no-untyped-call] # generated

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def prepare(self, key: str, parent: str = "") -> list[str]:
        """Prepare; the options of its only mount."""
        answer = self.stub.Prepare(pb.PrepareSnapshotRequest(key=key, parent=parent))
        return list(answer.mounts[0].options)

    def commit(self, name: str, key: str) -> None:
        self.stub.Commit(pb.CommitSnapshotRequest(name=name, key=key))

    def remove(self, key: str) -> None:
        self.stub.Remove(pb.RemoveSnapshotRequest(key=key))

    def cleanup(self) -> None:
        self.stub.Cleanup(pb.CleanupRequest())

    def names(self, *filters: str) -> list[str]:
        return [
            info.name
            for answer in self.stub.List(pb.ListSnapshotsRequest(filters=filters))
            for info in answer.info
        ]


def status(error: grpc.RpcError) -> grpc.StatusCode:
    """The status of a failed call."""
    code: grpc.StatusCode = error.code()
    return code


def start_snapshotter(folder: Path, *options: str | Path, ready: bool = True) -> Process:
    """Start ``thin-snapshotter`` with its root and socket (``s.sock``) in a folder.

    Args:
        folder: made by the fixture ``folder``.
        options: more of its command line; later ones win.
        ready: wait until it listens.
    """
    argv: Sequence[str | Path] = [
        *(sys.executable, "-m", "snapshotter.main", "--log-level", "INFO"),
        *("--root", folder / "snapshotter", "--address", folder / "s.sock"),
        *("--daemon", folder / "daemon.sock", *options),
    ]
    env = {"PYTHONPATH": str(PROJECT)}
    process = Process(argv, folder=folder, name="thin-snapshotter", env=env, check_log=True)
    if ready:
        process.wait_ready(lambda: accepts(folder / "s.sock"), "the socket")
    return process
