"""The gRPC face of a :class:`~snapshotter.snapshotter.Snapshotter`: translation, no rules."""

# The methods' names are those of the API, and what they do stands in snapshotter.snapshotter:
# ruff: noqa: N802, D102

from __future__ import annotations

import logging
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from snapshotter import model
from snapshotter.api import mount_pb2, snapshots_pb2, snapshots_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from snapshotter.snapshotter import Snapshotter

log = logging.getLogger(__name__)

INFOS_PER_MESSAGE = 100
NS_PER_S = 1_000_000_000

STATUS: dict[type[Exception], grpc.StatusCode] = {
    model.NotFound: grpc.StatusCode.NOT_FOUND,
    model.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    model.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    model.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    model.Unavailable: grpc.StatusCode.UNAVAILABLE,
}
"""What a client hears, by error. Errors of the disk are INTERNAL."""


class SnapshotsService(snapshots_pb2_grpc.SnapshotsServicer):
    """Answers containerd's snapshots API; its methods run in any thread."""

    def __init__(self, snapshotter: Snapshotter) -> None:
        self._snapshotter = snapshotter

    def Prepare(
        self, request: snapshots_pb2.PrepareSnapshotRequest, context: grpc.ServicerContext
    ) -> snapshots_pb2.PrepareSnapshotResponse:
        with _answering(context, "Prepare", request.key):
            mounts = self._snapshotter.prepare(request.key, request.parent, dict(request.labels))
            return snapshots_pb2.PrepareSnapshotResponse(mounts=_mounts(mounts))

    def View(
        self, request: snapshots_pb2.ViewSnapshotRequest, context: grpc.ServicerContext
    ) -> snapshots_pb2.ViewSnapshotResponse:
        with _answering(context, "View", request.key):
            mounts = self._snapshotter.view(request.key, request.parent, dict(request.labels))
            return snapshots_pb2.ViewSnapshotResponse(mounts=_mounts(mounts))

    def Mounts(
        self, request: snapshots_pb2.MountsRequest, context: grpc.ServicerContext
    ) -> snapshots_pb2.MountsResponse:
        with _answering(context, "Mounts", request.key):
            mounts = self._snapshotter.mounts(request.key)
            return snapshots_pb2.MountsResponse(mounts=_mounts(mounts))

    def Commit(
        self, request: snapshots_pb2.CommitSnapshotRequest, context: grpc.ServicerContext
    ) -> Empty:
        with _answering(context, "Commit", request.key):
            self._snapshotter.commit(
                request.name, request.key, dict(request.labels), request.parent
            )
            return Empty()

    def Remove(
        self, request: snapshots_pb2.RemoveSnapshotRequest, context: grpc.ServicerContext
    ) -> Empty:
        with _answering(context, "Remove", request.key):
            self._snapshotter.remove(request.key)
            return Empty()

    def Stat(
        self, request: snapshots_pb2.StatSnapshotRequest, context: grpc.ServicerContext
    ) -> snapshots_pb2.StatSnapshotResponse:
        with _answering(context, "Stat", request.key):
            info = self._snapshotter.stat(request.key)
            return snapshots_pb2.StatSnapshotResponse(info=_info(info))

    def Update(
        self, request: snapshots_pb2.UpdateSnapshotRequest, context: grpc.ServicerContext
    ) -> snapshots_pb2.UpdateSnapshotResponse:
        with _answering(context, "Update", request.info.name):
            info = self._snapshotter.update(
                request.info.name, dict(request.info.labels), list(request.update_mask.paths)
            )
            return snapshots_pb2.UpdateSnapshotResponse(info=_info(info))

    def List(
        self, request: snapshots_pb2.ListSnapshotsRequest, context: grpc.ServicerContext
    ) -> Iterator[snapshots_pb2.ListSnapshotsResponse]:
        with _answering(context, "List", ",".join(request.filters)):
            infos = self._snapshotter.list(list(request.filters))
        for start in range(0, len(infos), INFOS_PER_MESSAGE):
            batch = infos[start : start + INFOS_PER_MESSAGE]
            yield snapshots_pb2.ListSnapshotsResponse(info=[_info(info) for info in batch])

    def Usage(
        self, request: snapshots_pb2.UsageRequest, context: grpc.ServicerContext
    ) -> snapshots_pb2.UsageResponse:
        with _answering(context, "Usage", request.key):
            usage = self._snapshotter.usage(request.key)
            return snapshots_pb2.UsageResponse(size=usage.size_bytes, inodes=usage.inodes)

    def Cleanup(
        self, request: snapshots_pb2.CleanupRequest, context: grpc.ServicerContext
    ) -> Empty:
        with _answering(context, "Cleanup", request.snapshotter):
            self._snapshotter.cleanup()
            return Empty()


@contextmanager
def _answering(context: grpc.ServicerContext, call: str, subject: str) -> Iterator[None]:
    """Log one call, and end it with the right status when the block raises."""
    log.debug("%s %s", call, subject)
    try:
        yield
    except model.SnapshotError as error:
        log.debug("%s %s: %s", call, subject, error)
        context.abort(STATUS[type(error)], str(error))
    except (OSError, sqlite3.Error) as error:
        log.exception("%s %s", call, subject)
        context.abort(grpc.StatusCode.INTERNAL, f"thin-snapshotter: {error}")


def _mounts(mounts: Iterable[model.Mount]) -> list[mount_pb2.Mount]:
    return [mount_pb2.Mount(type=m.type, source=m.source, options=m.options) for m in mounts]


def _info(info: model.Info) -> snapshots_pb2.Info:
    return snapshots_pb2.Info(
        name=info.name,
        parent=info.parent,
        kind=snapshots_pb2.Kind.Name(info.kind),
        created_at=_timestamp(info.created_ns),
        updated_at=_timestamp(info.updated_ns),
        labels=info.labels,
    )


def _timestamp(time_ns: int) -> Timestamp:
    return Timestamp(seconds=time_ns // NS_PER_S, nanos=time_ns % NS_PER_S)
