"""The web application: a GET is looked up in the list of public paths, then on disk."""

from __future__ import annotations

import logging
import os
import stat
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import trio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from thinfs.serve.answer import Plan, plan
from thinfs.serve.published import Published, published

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
"""Bytes read and sent at a time: almost every object goes out in one piece."""


def application(repository: Path) -> ASGIApp:
    """An ASGI application that serves ``repository``, for a server that runs on trio.

    Answers GET and HEAD, single ranges, ``If-None-Match`` and ``If-Range``. Files are looked up
    at each request, so what a converter publishes meanwhile is there at once.
    """

    async def answer(request: Request) -> Response:
        found = published(request.path_params["path"])
        if found is None:
            return _not_found()
        try:
            return await trio.to_thread.run_sync(_open, repository, found, request)
        except OSError:  # not there, a link, not readable: nothing a reader could change
            return _not_found()

    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET"])])


def logged(app: ASGIApp) -> ASGIApp:
    """The same application with one line at INFO for each request.

    The path is shown as a Python literal: a client's line feeds and escape codes reach neither
    the log's lines nor a terminal.
    """

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await app(scope, receive, note)
        client = (scope.get("client") or ("?",))[0]
        took_ms = (time.perf_counter() - start) * 1000
        request = f"{scope['method']} {scope['path']!a}"
        log.info("%s %s %d %.1f ms", client, request, status, took_ms)

    return run


class _OpenFile(Response):
    """An answer whose body is part of an open file; sends it and closes the file.

    Starlette's own FileResponse watches for the client's departure while it sends, and so
    cancels the server in the middle of its book-keeping behind the last byte: on hypercorn and
    trio the connection then never counts as idle and outlives every time-out.
    """

    def __init__(self, fd: int, planned: Plan, piece: bytes) -> None:
        super().__init__(status_code=planned.status, headers=planned.headers)
        self._fd = fd
        self._plan = planned
        self._piece = piece

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        with ExitStack() as closing:
            closing.callback(os.close, self._fd)
            head = {"type": "http.response.start", "status": self.status_code}
            await send({**head, "headers": self.raw_headers})
            left = self._plan.length if scope["method"] == "GET" else 0
            piece = self._piece[:left]
            while left := left - len(piece):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                offset = self._plan.first + self._plan.length - left
                piece = await trio.to_thread.run_sync(_read, self._fd, left, offset)
            await send({"type": "http.response.body", "body": piece})


def _open(repository: Path, found: Published, request: Request) -> Response:
    """Open the file and read the first piece: one trip to a thread for most requests."""
    fd = os.open(repository / found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with ExitStack() as failing:
        failing.callback(os.close, fd)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return _not_found()
        planned = plan(found, status.st_size, _etag(found, status), request.headers)
        piece = _read(fd, planned.length, planned.first) if request.method == "GET" else b""
        failing.pop_all()
    return _OpenFile(fd, planned, piece)


def _read(fd: int, length: int, offset: int) -> bytes:
    """The next piece of what is left to send.

    Raises:
        OSError: the file has become shorter than its ``Content-Length``.
    """
    piece = os.pread(fd, min(length, PIECE_BYTES), offset)
    if length and not piece:
        raise OSError("the file was truncated while it was sent")
    return piece


def _etag(found: Published, status: os.stat_result) -> str:
    """The digest where the name is one; else what changes whenever the file is replaced."""
    if found.digest is not None:
        return f'"{found.digest}"'
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"'


def _not_found() -> Response:
    return PlainTextResponse("not found\n", status_code=404)
