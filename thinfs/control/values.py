"""What the daemon's control API says and hears, as JSON over HTTP on a unix socket.

===========================  =============================================================
``GET /v1/status``           :class:`Status`
``GET /v1/roots``            list of :class:`Root`
``POST /v1/roots``           :class:`AttachRequest` → :class:`Root`
``POST /v1/expected``        :class:`Expectation`: somebody will probably attach a root soon; 204
``DELETE /v1/roots/HOLDER``  gives up one holder's claim; 204 whether or not it had one
``GET /v1/roots/ID/trace``   :class:`Trace`: what happened to one root since it was attached
``GET /metrics``             Prometheus text
===========================  =============================================================

Every request may be made twice with the same result: a client whose connection breaks, because
the worker that answered it was killed or replaced, asks again.

An error is answered as :class:`Problem` with status 400 (usage, format), 404 (missing), 502
(transport, integrity) or 500 (store and all else).
"""

from __future__ import annotations

import msgspec


class AttachRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for a root to be there until its holder gives it up.

    Attaching is idempotent: the same holder may ask again for the same root, after a restart
    for instance. A holder has one root; asking for another one moves its claim.

    Attributes:
        holder: who needs the root, at most 200 characters of ``[A-Za-z0-9._-]``.
        recipe: the text of ``thin.json``, at most 1 MiB.
    """

    holder: str
    recipe: str


class Expectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Say that a root will probably be wanted soon, so that it is made ready for a while.

    Attributes:
        recipe: the text of ``thin.json``, at most 1 MiB.
    """

    recipe: str


class Root(msgspec.Struct, frozen=True):
    """One composed read-only root file system on this node.

    Attributes:
        id: names the root in ``trees/<id>``: the first 16 hex digits of its catalog's digest.
        mode: ``tree`` (served by FUSE) or ``native`` (by the kernel).
        lowerdir: the text that goes behind overlayfs' ``lowerdir=`` for this root; free of
            ``,`` and, but for the ``::`` of data-only layers, of ``:``.
        directory: the same root as one plain directory, for read-only bind mounts.
        origin: the image it was made from, as the recipe says.
        holders: who needs it.
    """

    id: str
    mode: str
    lowerdir: str
    directory: str
    origin: str
    holders: list[str]


class CacheStatus(msgspec.Struct, frozen=True):
    """The node cache: all sizes in bytes.

    Attributes:
        path: its directory.
        used_bytes: what contents, partial contents and catalogs take.
        max_bytes: the quota.
        contents: whole contents kept.
        hits: reads answered from the cache since the daemon started.
        misses: reads that waited for a fetch.
        evictions: contents removed to stay below the quota.
    """

    path: str
    used_bytes: int
    max_bytes: int
    contents: int
    hits: int
    misses: int
    evictions: int


class CircuitStatus(msgspec.Struct, frozen=True):
    """One repository or proxy that the daemon has asked.

    Attributes:
        kind: ``repository`` or ``proxy``.
        address: its URL, without a password; ``DIRECT`` for no proxy.
        ok: whether it answered when it was asked last.
        failures: how often all attempts have failed since the daemon started.
        failed_for_s: since when it does not answer; 0 when it does.
        next_try_s: until it is preferred again; others are asked first so long.
        error: the last failure; empty when it answers.
    """

    kind: str
    address: str
    ok: bool
    failures: int
    failed_for_s: float
    next_try_s: float
    error: str


class FetchStatus(msgspec.Struct, frozen=True):
    """What came from repositories since the daemon started.

    Attributes:
        requests: objects and catalogs asked for.
        bytes: bytes received, compressed as they are stored.
        errors: attempts that failed.
        integrity_errors: answers whose digest was wrong.
        waiting: reads that wait for a fetch now.
        oldest_wait_s: age of the oldest of them, 0 when none waits.
        circuits: repositories and proxies that have been asked, and whether they answer.
    """

    requests: int
    bytes: int
    errors: int
    integrity_errors: int
    waiting: int
    oldest_wait_s: float
    circuits: list[CircuitStatus] = []


class WorkerStatus(msgspec.Struct, frozen=True):
    """The process that answers the kernel, and what its supervisor tells about it.

    Attributes:
        pid: its process.
        number: 1 for the first worker of the daemon.
        uptime_s: since it began to serve.
        supervised: whether the supervisor lives.
        restarts: workers of this daemon that ended without being told to.
        last_end: how the last one of them ended; empty when there was none.
        reloads_failed: how often a new worker was wanted and could not start.
        reload_error: why, the last time.
    """

    pid: int = 0
    number: int = 0
    uptime_s: float = 0.0
    supervised: bool = True
    restarts: int = 0
    last_end: str = ""
    reloads_failed: int = 0
    reload_error: str = ""


class Status(msgspec.Struct, frozen=True):
    """The daemon as ``thinfs status`` shows it.

    Attributes:
        version: of thinfs; the worker's.
        pid: of the daemon: the supervisor.
        uptime_s: since the mount was made.
        mountpoint: where all roots are served.
        roots: what is attached.
        cache: the node cache.
        fetch: what came over the network.
        fuse_requests: requests served, by operation.
        root_mode: ``tree`` or ``native``: how roots are served if nothing stands against it.
        root_mode_reason: why, for a person.
        fuse_underway: requests that are being answered.
        fuse_oldest_s: age of the oldest of them, 0 when there is none.
        worker: the process that answers.
    """

    version: str
    pid: int
    uptime_s: float
    mountpoint: str
    roots: list[Root]
    cache: CacheStatus
    fetch: FetchStatus
    fuse_requests: dict[str, int]
    root_mode: str = "tree"
    root_mode_reason: str = ""
    fuse_underway: int = 0
    fuse_oldest_s: float = 0.0
    worker: WorkerStatus = WorkerStatus()


class TraceEvent(msgspec.Struct, frozen=True, array_like=True):
    """One thing that happened to a root.

    Attributes:
        what: ``attach``, ``mount`` (steps until the root is there), ``open``, ``read`` (a
            content or the metadata image was asked for; only what reaches the daemon),
            ``fetch`` (an object or a published file came over the network on a reader's
            demand), ``prefetch`` (the same, before anybody asked).
        at_s: when it began, seconds since the trace's own beginning.
        duration_s: how long it took; of a read, the time its reader waited.
        name: of a read: the content's digest, hex, or ``metadata``; of a fetch: the object's
            digest or the path in the repository; of a step: what it was.
        offset: of a read: first byte.
        length: of a read: bytes answered; of a fetch: bytes received, as stored.
        waited: of a read: whether it waited for a fetch.
    """

    what: str
    at_s: float
    duration_s: float
    name: str = ""
    offset: int = 0
    length: int = 0
    waited: bool = False


class Trace(msgspec.Struct, frozen=True):
    """What happened to one root since it was attached.

    Attributes:
        root: its id.
        origin: the image.
        began_unix_s: when the trace begins, seconds since the epoch.
        events: in the order of their ends; a bounded number.
        dropped: events that came after the bound was reached.
        paths: one path in the image for each content digest among the events, as far as they
            are known; without a leading slash, undecodable bytes as ``%XX``.
    """

    root: str
    origin: str
    began_unix_s: float
    events: list[TraceEvent]
    dropped: int = 0
    paths: dict[str, str] = {}


class Problem(msgspec.Struct, frozen=True):
    """An error answer.

    Attributes:
        error: name of the class in ``thinfs.errors``.
        message: one line for a person.
    """

    error: str
    message: str
