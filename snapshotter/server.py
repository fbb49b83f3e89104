"""Serving a snapshotter on a unix socket, and opening one in its directory."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from snapshotter import directories
from snapshotter.api import snapshots_pb2_grpc
from snapshotter.metastore import Metastore
from snapshotter.mounts import Layout
from snapshotter.service import SnapshotsService
from snapshotter.snapshotter import Snapshotter
from thinfs.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snapshotter.snapshotter import Roots

log = logging.getLogger(__name__)

THREADS = 128
"""Calls answered at once. One that waits for a slow repository takes a thread meanwhile, and must
not keep others from ordinary images. Threads are made when they are needed."""

SOCKET_MODE = 0o600
MAX_SOCKET_PATH_BYTES = 107
CONNECT_TIMEOUT_S = 5.0


@contextmanager
def opened(root: Path, roots: Roots) -> Iterator[Snapshotter]:
    """Open the snapshotter of a directory, for this process alone, and tidy it up.

    Args:
        root: its directory, made when it is not there (mode 0700).
        roots: the daemon; need not be reachable now.

    Raises:
        UsageError: the path cannot be written in mount options, or another process uses it.
        StoreError: the directory cannot be used.
    """
    root = root.resolve()
    if any(character in str(root) for character in ",:\\"):
        raise UsageError(f"{root}: a path with ',', ':' or '\\' cannot be part of overlay options")
    layout = Layout(root / "snapshots")
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout.directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{root} cannot be used: {error.strerror}") from error
    with _locked(root / "lock"):
        store = Metastore(root / "metadata.sqlite")
        try:
            snapshotter = Snapshotter(
                layout,
                store,
                roots,
                options=directories.overlay_options(),
                thin_options=directories.thin_overlay_options(),
            )
            snapshotter.delete_orphans()
            yield snapshotter
        finally:
            store.close()


@contextmanager
def serving(snapshotter: Snapshotter, address: Path, *, drain_s: float) -> Iterator[None]:
    """Answer containerd's snapshots API on a unix socket while the block runs.

    Args:
        snapshotter: what answers.
        address: the socket; that of a dead server is replaced.
        drain_s: how long calls that are under way at the end may take.

    Raises:
        UsageError: a server listens there already, or the path is too long or no socket.
        StoreError: the socket cannot be made.
    """
    _make_way(address)
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="call")
    server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
    snapshots_pb2_grpc.add_SnapshotsServicer_to_server(  # type: ignore[no-untyped-call] # generated
        SnapshotsService(snapshotter), server
    )
    _bind(server, address)
    server.start()
    log.info("listening on %s", address)
    try:
        yield
    finally:
        log.info("ending: no new calls, up to %g s for those under way", drain_s)
        server.stop(drain_s).wait()
        pool.shutdown()
        address.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other snapshotters away; the kernel gives the lock back when we die."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{path.parent}: another thin-snapshotter uses it; end it or choose another --root"
            ) from error
        yield


def _make_way(address: Path) -> None:
    """Delete the socket of a dead server; make its directory."""
    if len(os.fsencode(address)) > MAX_SOCKET_PATH_BYTES:
        raise UsageError(f"{address}: a socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes")
    try:
        address.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        mode = address.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{address} cannot be made: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise UsageError(
            f"{address} is there and is no socket: delete it or take another --address"
        )
    if _answers(address):
        raise UsageError(f"a server listens on {address} already: end it or take another --address")
    log.info("replacing %s, which a dead server left", address)
    address.unlink(missing_ok=True)


def _answers(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(address))
        except OSError as error:
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
        return True


def _bind(server: grpc.Server, address: Path) -> None:
    # The mode must be right from the first moment. Nothing else runs in this process yet that
    # could make files under this umask.
    before = os.umask(0o777 & ~SOCKET_MODE)
    try:
        server.add_insecure_port(f"unix:{address}")
    except RuntimeError as error:
        raise StoreError(f"cannot listen on {address}: {error}") from error
    finally:
        os.umask(before)
