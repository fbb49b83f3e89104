"""The control API over HTTP: requests to calls, results and errors to answers.

The server knows nothing of what it drives but :class:`Driven`.
"""

from __future__ import annotations

import logging
import socket
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import hypercorn.config
import hypercorn.trio
import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from thinfs.control.problems import problem_of
from thinfs.control.values import AttachRequest, Expectation, Problem
from thinfs.errors import FormatError, StoreError, ThinfsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.typing import ASGIFramework
    from starlette.requests import Request

    from thinfs.control.values import Root, Status, Trace

    Handler = Callable[[Request], Awaitable[Response]]

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES: Final = 4 << 20
"""Largest body: a recipe of 1 MiB in which JSON escapes most characters."""

STOP_S: Final = 5.0
"""How long requests under way may take to end when the server stops."""

PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


class Driven(Protocol):
    """What the control API drives."""

    async def status(self) -> Status:
        """Everything at a glance."""
        ...

    def roots(self) -> list[Root]:
        """What is attached."""
        ...

    async def attach(self, holder: str, recipe: str) -> Root:
        """Make a root available for a holder."""
        ...

    def expect(self, recipe: str) -> None:
        """Make a root ready soon, for a while; must not wait."""
        ...

    async def detach(self, holder: str) -> None:
        """Give up a holder's claim."""
        ...

    async def trace(self, root_id: str) -> Trace:
        """What happened to a root since it was attached."""
        ...

    def metrics(self) -> bytes:
        """Prometheus text."""
        ...


def application(driven: Driven) -> Starlette:
    """The control API as an ASGI application."""

    async def status(_request: Request) -> Response:
        return _json(await driven.status())

    async def roots(_request: Request) -> Response:
        return _json(driven.roots())

    async def attach(request: Request) -> Response:
        body = await _body(request)
        try:
            wanted = msgspec.json.decode(body, type=AttachRequest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FormatError(f"not an attach request: {error}") from error
        return _json(await driven.attach(wanted.holder, wanted.recipe))

    async def expect(request: Request) -> Response:
        body = await _body(request)
        try:
            expectation = msgspec.json.decode(body, type=Expectation)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FormatError(f"not an expectation: {error}") from error
        driven.expect(expectation.recipe)
        return Response(status_code=204)

    async def detach(request: Request) -> Response:
        await driven.detach(request.path_params["holder"])
        return Response(status_code=204)

    async def trace(request: Request) -> Response:
        return _json(await driven.trace(request.path_params["root"]))

    return Starlette(
        routes=[
            Route("/v1/roots/{root}/trace", _answers(trace), methods=["GET"]),
            Route("/v1/status", _answers(status), methods=["GET"]),
            Route("/v1/roots", _answers(roots), methods=["GET"]),
            Route("/v1/roots", _answers(attach), methods=["POST"]),
            Route("/v1/expected", _answers(expect), methods=["POST"]),
            Route("/v1/roots/{holder}", _answers(detach), methods=["DELETE"]),
            _metrics_route(driven),
        ]
    )


def metrics_application(driven: Driven) -> Starlette:
    """The metrics alone, for a TCP port."""
    return Starlette(routes=[_metrics_route(driven)])


def listen_tcp(address: str) -> socket.socket:
    """Listen on ``host:port``.

    Raises:
        UsageError: it is malformed.
        StoreError: it cannot be listened on.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"[daemon] metrics = {address!r} is not of the form host:port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family)
    except OSError as error:
        raise StoreError(f"cannot listen on {address}: {error.strerror or error}") from error


async def serve(
    app: Starlette,
    listening: socket.socket,
    stop: trio.Event,
    task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests until ``stop``, then end those under way within :data:`STOP_S`.

    Args:
        app: what answers.
        listening: taken over and closed.
        stop: set by the caller.
        task_status: told when requests are answered.
    """
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.graceful_timeout = STOP_S
    config.include_server_header = False
    config.errorlog = logging.getLogger("hypercorn.error")
    await hypercorn.trio.serve(
        cast("ASGIFramework", app), config, shutdown_trigger=stop.wait, task_status=task_status
    )


def _answers(handler: Handler) -> Handler:
    """Turn what a handler raises into a :class:`Problem`."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:
            return Response(status_code=400)
        except ThinfsError as error:
            log.info("%s %s: %s", request.method, request.url.path, error)
            return _problem(*problem_of(error))
        except Exception as error:
            log.exception("%s %s failed", request.method, request.url.path)
            return _problem(*problem_of(error))

    return answer


def _metrics_route(driven: Driven) -> Route:
    async def metrics(_request: Request) -> Response:
        return Response(driven.metrics(), headers={"content-type": PROMETHEUS})

    return Route("/metrics", _answers(metrics), methods=["GET"])


async def _body(request: Request) -> bytes:
    body = bytearray()
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_REQUEST_BYTES:
                raise FormatError(f"a request of more than {MAX_REQUEST_BYTES} bytes")
    return bytes(body)


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _problem(status: int, problem: Problem) -> Response:
    body = msgspec.json.encode(problem)
    return Response(body, status_code=status, media_type="application/json")
