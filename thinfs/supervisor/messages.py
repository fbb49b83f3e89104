"""What supervisor and worker say to each other: JSON on a SOCK_SEQPACKET pair.

::

    supervisor                      worker
    Handover + descriptors   ->             at its start
                             <-     Prepared
    Go                       ->             nobody else reads the device any more
                             <-     Serving
                             <-     Alive   every BEAT_S seconds, from the start on
    News                     ->             whenever it changes
    Leave                    ->
                             <-     Left    it has stopped reading the device
    Stop                     ->             the mount is to go away
                             <-     Failed | Unmounted | Reload
                             <-     Estate + descriptors    from one that has lost its supervisor

A worker ends by ending; the supervisor sees that from its process.
"""

from __future__ import annotations

import array
import socket
from functools import partial
from typing import Final, Self

import msgspec

from thinfs.errors import StoreError

BEAT_S: Final = 1.0
MAX_MESSAGE_BYTES: Final = 64 << 10
MAX_DESCRIPTORS: Final = 4


class Handover(msgspec.Struct, frozen=True, tag=True):
    """What a worker is given; with it come the device and the control socket, in this order.

    Attributes:
        number: 1 for the first worker of a mount.
        supervisor: its process.
        mountpoint: absolute path.
        state: directory of what must survive a restart.
        mounted_ns: when it was mounted, nanoseconds since the epoch.
        init: the kernel's FUSE_INIT request.
        answered: the answer that the kernel has, empty when it has none.
        locks: descriptors that the worker has inherited; as long as they are open, no other
            daemon starts.
        log_level: what the command line asked for; empty: what the configuration says.
    """

    number: int
    supervisor: int
    mountpoint: str
    state: str
    mounted_ns: int
    init: bytes
    answered: bytes
    locks: tuple[int, ...] = ()
    log_level: str = ""


class Go(msgspec.Struct, frozen=True, tag=True):
    """Read the device."""


class Leave(msgspec.Struct, frozen=True, tag=True):
    """End, and leave everything as it is for the next one.

    Attributes:
        grace_s: how long requests under way may take.
    """

    grace_s: float


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End in order: the mount will go away."""


class News(msgspec.Struct, frozen=True, tag=True):
    """What ``thinfs status`` tells about the supervisor.

    Attributes:
        restarts: workers that ended without being told to.
        last_end: how the last one of them ended, for a person.
        reloads_failed: how many.
        reload_error: why the last one of them failed.
    """

    restarts: int = 0
    last_end: str = ""
    reloads_failed: int = 0
    reload_error: str = ""


class Alive(msgspec.Struct, frozen=True, tag=True):
    """The loop turns."""


class Prepared(msgspec.Struct, frozen=True, tag=True):
    """All that can be done beside another worker is done."""


class Serving(msgspec.Struct, frozen=True, tag=True):
    """Requests are answered, roots are there.

    Attributes:
        answered: what the kernel was answered to FUSE_INIT.
    """

    answered: bytes


class Left(msgspec.Struct, frozen=True, tag=True):
    """The device is not read any more and nothing is written to it."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The worker could not start.

    Attributes:
        error: name of the class in ``thinfs.errors``.
        message: one line for a person.
    """

    error: str
    message: str


class Unmounted(msgspec.Struct, frozen=True, tag=True):
    """The kernel says that the mount is gone."""


class Reload(msgspec.Struct, frozen=True, tag=True):
    """Somebody wants a new worker."""


class Estate(msgspec.Struct, frozen=True, tag=True):
    """What a worker without supervisor has; with it come device, control socket and locks.

    Attributes:
        pid: its process.
        handover: what it was given.
        numbers: major and minor number of the mount.
    """

    pid: int
    handover: Handover
    numbers: tuple[int, int]


Order = Handover | Go | Leave | Stop | News
Word = Alive | Prepared | Serving | Left | Failed | Unmounted | Reload | Estate

_ORDERS: Final[msgspec.json.Decoder[Order]] = msgspec.json.Decoder(Order)
_WORDS: Final[msgspec.json.Decoder[Word]] = msgspec.json.Decoder(Word)


class Closed(Exception):  # noqa: N818 - what it says is what it is
    """The other side is gone."""


class Channel:
    """One end of the pair; never waits.

    Args:
        end: taken over and closed.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """For waiting until there is something to hear."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def tell(self, message: Order | Word, descriptors: tuple[int, ...] = ()) -> bool:
        """Send one message.

        Returns:
            Whether it was sent: not when the other side is gone, or has not heard for long.
        """
        data = msgspec.json.encode(message)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        try:
            self._socket.sendmsg([data], rights if descriptors else [])
        except OSError:
            return False
        return True

    def hear_order(self) -> tuple[Order, list[int]]:
        """One message of the supervisor's, and the descriptors in it, which the caller owns.

        Raises:
            BlockingIOError: there is none.
            Closed: the supervisor is gone.
            StoreError: it speaks another language.
        """
        data, descriptors = self._receive()
        try:
            return _ORDERS.decode(data), descriptors
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"the supervisor is of another version: {error}") from error

    def hear_word(self) -> tuple[Word, list[int]]:
        """One message of the worker's; as :meth:`hear_order`."""
        data, descriptors = self._receive()
        try:
            return _WORDS.decode(data), descriptors
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"the worker is of another version: {error}") from error

    def _receive(self) -> tuple[bytes, list[int]]:
        try:
            data, rights, _, _ = self._next()
        except ConnectionError as error:
            raise Closed from error
        if not data:
            raise Closed
        descriptors = array.array("i")
        for level, kind, content in rights:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = len(content) - len(content) % descriptors.itemsize
                descriptors.frombytes(content[:whole])
        return data, list(descriptors)

    def _next(self) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        room = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
        receive = partial(self._socket.recvmsg, MAX_MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
        try:
            return receive()
        except ConnectionResetError:
            # The other side has closed without hearing all of ours. The kernel says so once,
            # before it gives out what that side has said.
            return receive()


def pair() -> tuple[socket.socket, socket.socket]:
    """The supervisor's end and the worker's."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
