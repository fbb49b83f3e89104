"""The listening side: hypercorn on trio, from the first socket to a clean stop."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import hypercorn.config
import hypercorn.trio
import trio

from thinfs.errors import UsageError
from thinfs.serve.app import application, logged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hypercorn.typing import ASGIFramework

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 75.0
"""How long an idle connection stays open: longer than the pauses of a starting container."""

KEEP_ALIVE_REQUESTS = 1_000_000
"""Requests on one connection; a cold start of a large image makes some ten thousand."""

STOP_S = 3.0
"""How long answers that are under way may take to end after a stop signal."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen.

    Attributes:
        host: a name or a literal address, without brackets.
        port: 0 lets the system choose.
    """

    host: str
    port: int


def parse_listen(text: str) -> Address:
    """Read ``HOST:PORT``, ``[IPV6]:PORT`` or ``:PORT`` (all addresses).

    Raises:
        UsageError: it is none of these.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--listen {text}: give HOST:PORT, such as 127.0.0.1:8000")
    if ":" in host and not bracketed:
        raise UsageError(f"--listen {text}: put an IPv6 address into brackets, as [::1]:8000")
    return Address(host[1:-1] if bracketed else host, int(port))


def listen(address: Address) -> socket.socket:
    """Open the listening socket; the caller closes it.

    Raises:
        UsageError: the host has no such address, or the port is taken or not permitted.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listening = socket.create_server((address.host, address.port), family=family, backlog=1024)
    except OSError as error:
        where = f"{address.host or '*'}:{address.port}"
        raise UsageError(f"cannot listen on {where}: {error.strerror}") from error
    # accepted connections inherit this; without it the second part of an answer waits for an ACK
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def url_of(listening: socket.socket) -> str:
    """The address to reach the socket by, with a trailing slash.

    A socket that listens on all addresses is named by this machine's host name.
    """
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


async def serve(
    repository: Path,
    listening: socket.socket,
    *,
    access_log: bool = False,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the answers under way and return.

    This is the main function of a process: when a client still holds up an answer after
    :data:`STOP_S` and a second, the process ends with exit code 0.

    Args:
        repository: the directory; it need not be writable.
        listening: taken over and closed.
        access_log: log each request at INFO.
        started: called once, when requests are answered.
    """
    app = application(repository)
    if access_log:
        app = logged(app)
    server = partial(hypercorn.trio.serve, cast("ASGIFramework", app), _config(listening))
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def stopped() -> None:
                await anext(aiter(signals))
                nursery.start_soon(_leave_after, STOP_S + 1)

            async def run(task_status: trio.TaskStatus[list[str]]) -> None:
                await server(shutdown_trigger=stopped, task_status=task_status)
                nursery.cancel_scope.cancel()

            await nursery.start(run)
            started()


async def _leave_after(seconds: float) -> None:
    """End the process: hypercorn shields its sends, so a client that stops reading holds it."""
    await trio.sleep(seconds)
    log.warning("stopped while a client was still reading")
    logging.shutdown()
    os._exit(0)


def _config(listening: socket.socket) -> hypercorn.config.Config:
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = KEEP_ALIVE_REQUESTS
    config.graceful_timeout = STOP_S
    config.include_server_header = False
    config.errorlog = logging.getLogger("hypercorn.error")
    return config
