"""The one door to libcurl: transfers of files over shared connections, for trio.

libcurl tells which sockets it waits for and until when; one epoll descriptor holds them all,
and trio waits for that one. There is no task and no thread for this: of the tasks that wait
for their transfers one drives the sockets of all, and hands that over when it goes. See
docs/decisions/0005-libcurl.md.

Callers see :class:`thinfs.errors.TransportError` and nothing of pycurl.
"""

from __future__ import annotations

import contextlib
import math
import select
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pycurl
import trio

import thinfs
from thinfs.errors import FormatError, TransportError, UsageError
from thinfs.transfer import Pace, parse_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from thinfs.errors import Blame
    from thinfs.transfer import Answer, Get, Tls

USER_AGENT: Final = f"thinfs/{thinfs.__version__}"
OK: Final = 200
BUFFER_BYTES: Final = 64 << 10
"""What is read from a socket at once. 256 KiB is no faster and holds the loop up longer."""
MAX_EVENTS: Final = 4
"""Sockets that are served before other tasks have their turn."""
MAX_UNWANTED_BYTES: Final = 64 << 10
"""Bytes of an error page that are read so that the connection can be used again."""
SYSTEM_CA_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

_OF_THE_PROXY = frozenset({pycurl.E_COULDNT_RESOLVE_PROXY, 97})  # 97: CURLE_PROXY
_WHILE_CONNECTING = frozenset({pycurl.E_COULDNT_CONNECT, pycurl.E_OPERATION_TIMEDOUT})


class Transfers:
    """Transfers that share connections, which stay open for the next ones.

    Invariant, true at every checkpoint: when transfers are under way, one of the tasks that
    wait for them drives, or has been woken to do so.

    Args:
        connections: most connections to one host.
        tls: authorities and certificates.

    Raises:
        UsageError: libcurl cannot read a file that ``tls`` names.
    """

    def __init__(self, connections: int, tls: Tls) -> None:
        self._tls = tls
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, connections)
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections * 2)
        # What libcurl would queue is queued here instead: its time begins when it is sent.
        self._slots = trio.Semaphore(connections)
        self._epoll = select.epoll()
        self._timer_at = math.inf
        self._nap: trio.CancelScope | None = None
        self._driven = False
        self._running: dict[pycurl.Curl, _Transfer] = {}
        self._idle = [_Transfer(tls)]

    async def fetch(self, get: Get, sink: Callable[[bytes], object]) -> Answer:
        """Send one request. A cancelled transfer ends at once, with its connection.

        Args:
            get: what to ask for.
            sink: is given the body in pieces when the status is 200, and only then.

        Raises:
            FormatError: the body has more than ``max_bytes``; some of it may have been given.
            TransportError: there was no whole answer.
        """
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            await self._slots.acquire()
        transfer = self._idle.pop() if self._idle else _Transfer(self._tls)
        try:
            self._start(transfer, get, sink)
            await self._finished(transfer)
            return transfer.answered()
        except pycurl.error as error:
            raise TransportError(f"{get.url}: {error.args[-1]}") from error
        finally:
            if self._running.pop(transfer.easy, None) is not None:
                with contextlib.suppress(pycurl.error):
                    self._multi.remove_handle(transfer.easy)
            self._idle.append(transfer)
            self._slots.release()

    async def aclose(self) -> None:
        """Close all connections; no transfer is under way."""
        while self._idle:
            self._idle.pop().easy.close()
        self._multi.close()
        self._epoll.close()

    def _start(self, transfer: _Transfer, get: Get, sink: Callable[[bytes], object]) -> None:
        transfer.begin(get, sink, trio.current_time())
        self._running[transfer.easy] = transfer
        self._multi.add_handle(transfer.easy)
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._collect()

    async def _finished(self, transfer: _Transfer) -> None:
        while not transfer.done:
            with trio.CancelScope(deadline=transfer.pace.deadline) as patience:
                if self._driven:
                    await transfer.waiting.park()
                else:
                    await self._drive(transfer)
            if patience.cancelled_caught and not transfer.done:
                transfer.check_pace(trio.current_time())

    async def _drive(self, transfer: _Transfer) -> None:
        """Serve all sockets until ``transfer`` is done, then let another one do that."""
        self._driven = True
        try:
            while not transfer.done:
                await self._turn()
        finally:
            self._driven = False
            waiting = (t.waiting for t in self._running.values() if len(t.waiting))
            for lot in waiting:
                lot.unpark()
                break

    async def _turn(self) -> None:
        # Others have their turn also while data comes without a pause.
        await trio.lowlevel.checkpoint()
        events = self._epoll.poll(0, MAX_EVENTS)
        if not events and self._timer_at > trio.current_time():
            with trio.CancelScope(deadline=self._timer_at) as self._nap:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
            self._nap = None
            return
        for descriptor, event in events:
            self._multi.socket_action(descriptor, _selected(event))
        if self._timer_at <= trio.current_time():
            self._timer_at = math.inf
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._collect()

    def _collect(self) -> None:
        """Take what has ended from libcurl, and wake who waits for it."""
        more = 1
        while more:
            more, ended, failed = self._multi.info_read()
            for easy in ended:
                self._end(easy, 0, "")
            for easy, code, message in failed:
                self._end(easy, code, message)

    def _end(self, easy: pycurl.Curl, code: int, message: str) -> None:
        self._multi.remove_handle(easy)
        transfer = self._running.pop(easy)
        transfer.end(code, message)
        transfer.waiting.unpark_all()

    def _on_socket(self, what: int, descriptor: int, *_: object) -> None:
        if what == pycurl.POLL_REMOVE:
            with contextlib.suppress(OSError):  # it may be closed already
                self._epoll.unregister(descriptor)
            return
        mask = select.EPOLLIN if what & pycurl.POLL_IN else 0
        mask |= select.EPOLLOUT if what & pycurl.POLL_OUT else 0
        try:
            self._epoll.modify(descriptor, mask)
        except FileNotFoundError:
            self._epoll.register(descriptor, mask)

    def _on_timer(self, wait_ms: int) -> None:
        self._timer_at = math.inf if wait_ms < 0 else trio.current_time() + wait_ms / 1000
        if self._nap is not None:
            self._nap.deadline = self._timer_at


class _Transfer:
    """A libcurl handle and what goes through it now; used again for the next request."""

    def __init__(self, tls: Tls) -> None:
        self.easy = pycurl.Curl()
        self.waiting = trio.lowlevel.ParkingLot()
        self.easy.setopt(pycurl.WRITEFUNCTION, self._on_body)
        self.easy.setopt(pycurl.HEADERFUNCTION, self._on_header)
        for option, value in _OPTIONS:
            self.easy.setopt(option, value)
        _trust(self.easy, tls)

    def begin(self, get: Get, sink: Callable[[bytes], object], now: float) -> None:
        """Prepare for one request."""
        self._get = get
        self._sink = sink
        self._head: list[bytes] = []
        self._answer: Answer | None = None
        self._taken = 0
        self._overrun = False
        self._refused: Exception | None = None
        self._failure: TransportError | None = None
        self.done = False
        self.pace = Pace(get.patience, now)
        self.easy.setopt(pycurl.URL, get.url)
        self.easy.setopt(pycurl.HTTPHEADER, list(get.headers))
        self.easy.setopt(pycurl.CONNECTTIMEOUT_MS, math.ceil(get.patience.connect_s * 1000))
        _through(self.easy, get.proxy)

    def end(self, code: int, message: str) -> None:
        """Take note of the end; ``code`` is libcurl's, 0 when all has come."""
        self.done = True
        if code and not self._overrun and self._refused is None:
            self._failure = self._error(message or f"libcurl says {code}", _blame(self, code))

    def answered(self) -> Answer:
        """What has come; raises what went wrong."""
        if self._refused is not None:
            raise self._refused
        if self._failure is not None:
            raise self._failure
        answer = self._answer or self._said()
        if self._overrun and answer.status == OK:
            raise FormatError(f"{self._get.url} is longer than {self._get.max_bytes} bytes")
        return answer

    def check_pace(self, now: float) -> None:
        """Raise :class:`TransportError` when the answer is too slow."""
        if self.pace.too_slow(now):
            patience = self._get.patience
            raise self._error(
                f"less than {patience.bytes_per_s:g} bytes/s for {patience.silence_s:g} s"
            )

    @property
    def through_proxy(self) -> bool:
        """Whether the configuration sends it through one."""
        return bool(self._get.proxy)

    def _said(self) -> Answer:
        """The head of the answer; it is complete when the body begins."""
        self._answer = parse_head(self._head)
        return self._answer

    def _error(self, message: str, blame: Blame = "") -> TransportError:
        return TransportError(f"{self._get.shown}: {message}", blame=blame)

    # libcurl calls what follows; an exception in there would be printed and lost.

    def _on_header(self, line: bytes) -> None:
        if line.startswith(b"HTTP/"):  # also behind a proxy's own answer, and behind 1xx
            self.pace.arrived(len(line), trio.current_time())
            self._head.clear()
            self._answer = None
        self._head.append(line)

    def _on_body(self, piece: bytes) -> int:
        self.pace.arrived(len(piece), trio.current_time())
        self._taken += len(piece)
        answer = self._answer or self._said()
        wanted = answer.status == OK
        limit = self._get.max_bytes if wanted else MAX_UNWANTED_BYTES
        if max(self._taken, answer.length) > limit:
            self._overrun = True
            return -1
        if wanted:
            try:
                self._sink(piece)
            except Exception as error:  # it is raised where the caller waits
                self._refused = error
                return -1
        return len(piece)


_OPTIONS: Final = (
    (pycurl.NOSIGNAL, 1),
    (pycurl.BUFFERSIZE, BUFFER_BYTES),
    (pycurl.USERAGENT, USER_AGENT),
    (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
    (pycurl.FOLLOWLOCATION, 0),  # where a redirect may lead is the caller's decision
    (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
    # The first connection says whether it carries all; fifteen handshakes more are dearer.
    (pycurl.PIPEWAIT, 1),
    (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
    (pycurl.TCP_KEEPALIVE, 1),
    (pycurl.PATH_AS_IS, 1),
)


def _selected(event: int) -> int:
    selected = pycurl.CSELECT_IN if event & (select.EPOLLIN | select.EPOLLHUP) else 0
    selected |= pycurl.CSELECT_OUT if event & select.EPOLLOUT else 0
    return selected | (pycurl.CSELECT_ERR if event & select.EPOLLERR else 0)


def _through(easy: pycurl.Curl, proxy: str | None) -> None:
    if proxy is None:
        easy.unsetopt(pycurl.PROXY)
    else:
        easy.setopt(pycurl.PROXY, proxy)
        easy.setopt(pycurl.NOPROXY, "")  # an exception in the environment is not ours


def _blame(transfer: _Transfer, code: int) -> Blame:
    """Who is at fault, where libcurl knows."""
    if code in _OF_THE_PROXY:
        return "proxy"
    if code in _WHILE_CONNECTING and transfer.easy.getinfo(pycurl.CONNECT_TIME) == 0:
        return "proxy" if transfer.through_proxy else "host"
    return ""


def _trust(easy: pycurl.Curl, tls: Tls) -> None:
    for option, path in ((pycurl.SSLCERT, tls.certificate), (pycurl.SSLKEY, tls.key)):
        if path:
            easy.setopt(option, _readable(path))
    authorities = _readable(tls.ca_file) if tls.ca_file else next(_system_ca_files(), "")
    if authorities:
        easy.setopt(pycurl.CAINFO, authorities)
        easy.setopt(pycurl.PROXY_CAINFO, authorities)


def _system_ca_files() -> Iterator[str]:
    """The system's own, for libcurl as it comes from PyPI knows no place to look at."""
    found = ssl.get_default_verify_paths().cafile
    return (path for path in (found, *SYSTEM_CA_FILES) if path and Path(path).exists())


def _readable(path: str) -> str:
    try:
        with Path(path).open("rb"):
            return path
    except OSError as error:
        raise UsageError(f"[sources] names {path}: {error.strerror}") from error
