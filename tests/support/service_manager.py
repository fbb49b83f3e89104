"""As much of systemd as a service sees: its notify socket and its descriptor store."""

from __future__ import annotations

import array
import os
import socket
import sys
from typing import TYPE_CHECKING, Self

from tests.support.processes import Process
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_DESCRIPTORS = 8
_LAUNCH = """
import fcntl, os, sys
given = [int(number) for number in sys.argv[1].split(",") if number]
high = [fcntl.fcntl(number, fcntl.F_DUPFD, 100) for number in given]
for at, number in enumerate(high):
    os.dup2(number, 3 + at, inheritable=True)
os.closerange(3 + len(high), 200)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServiceManager:
    """Starts one service again and again; keeps what it is given to keep (sd_notify(3)).

    Attributes:
        said: all lines that came, but those about descriptors.
        store: kept descriptors by name.
    """

    def __init__(self, folder: Path, argv: Sequence[str]) -> None:
        self.said: list[str] = []
        self.store: dict[str, int] = {}
        self._folder = folder
        self._argv = list(argv)
        self._starts = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._socket.setblocking(False)

    def start(self) -> Process:
        """Start the service, with what is in the store; returns when it says that it is ready."""
        self._starts += 1
        self.listen()
        self.said.clear()
        kept = list(self.store.items())
        numbers = ",".join(str(descriptor) for _, descriptor in kept)
        env = {"NOTIFY_SOCKET": str(self._folder / "notify")}
        if kept:
            env |= {"LISTEN_FDS": str(len(kept)), "LISTEN_FDNAMES": ":".join(n for n, _ in kept)}
        process = Process(
            [sys.executable, "-c", _LAUNCH, numbers, *self._argv],
            folder=self._folder,
            name=f"service-{self._starts}",
            env=env,
            check_log=True,
            pass_fds=[descriptor for _, descriptor in kept],
        )
        process.wait_ready(lambda: "READY=1" in self.listen(), "READY=1")
        return process

    def listen(self) -> list[str]:
        """Hear what has been said meanwhile; gives all of it."""
        for text, descriptors in self._messages():
            lines = dict(line.split("=", 1) for line in text.splitlines())
            name = lines.get("FDNAME", "")
            if "FDSTOREREMOVE" in lines and name in self.store:
                os.close(self.store.pop(name))
            elif "FDSTORE" in lines:
                (self.store[name],) = descriptors
            else:
                self.said += text.splitlines()
        return self.said

    def wait_for(self, line: str) -> None:
        """Wait until the service has said something."""
        wait_until(lambda: line in self.listen(), f"{line} of the service")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.listen()
        self._socket.close()
        while self.store:
            os.close(self.store.popitem()[1])

    def _messages(self) -> Iterator[tuple[str, list[int]]]:
        room = socket.CMSG_SPACE(_DESCRIPTORS * 4)
        while True:
            try:
                text, rights, _, _ = self._socket.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            descriptors = array.array("i")
            for _, _, content in rights:
                descriptors.frombytes(content)
            yield text.decode(), list(descriptors)
