"""Processes that tests start: with a log, waited for until ready, always ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Self

from tests.support.logcheck import relay
from tests.support.sweep import MARK
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

LOG_TAIL_LINES = 30


class Process:
    """One running program; use it as a context manager.

    Args:
        argv: the command.
        folder: made by :func:`tests.support.sweep.make_folder`; the log is ``<name>.log`` in it.
        name: for the log and for messages.
        env: added to this process's environment.
        check_log: the program logs as thinfs does: tell its warnings to the log checker.
        pass_fds: descriptors that it inherits, with their numbers.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        folder: Path,
        name: str,
        env: Mapping[str, str] | None = None,
        check_log: bool = False,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._check_log = check_log
        self._told = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, MARK: str(folder), **(env or {})},
                pass_fds=pass_fds,
                start_new_session=True,  # Ctrl-C is for whoever started us, in its own order
            )

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    def wait_ready(self, ready: Callable[[], bool], what: str, *, timeout_s: float = 30.0) -> None:
        """Wait until ``ready()``.

        Raises:
            TimeoutError, ChildProcessError: it took too long, or the process ended before; the
                message has the end of its log.
        """

        def ready_or_ended() -> bool:
            if not self.running:
                raise ChildProcessError(
                    f"{self.name} ended with {self._popen.returncode} before {what}:\n{self.tail()}"
                )
            return ready()

        try:
            wait_until(ready_or_ended, f"{what} of {self.name}", timeout_s=timeout_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}:\n{self.tail()}") from None

    def tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The end of its log."""
        text = self.log.read_text(errors="backslashreplace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, sig: int = signal.SIGTERM, *, timeout_s: float = 20.0) -> int:
        """End it, by SIGKILL when it does not heed ``sig`` in time.

        Returns:
            Its exit code, negative for a signal.
        """
        if self.running:
            self._popen.send_signal(sig)
        try:
            code = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            code = self._popen.wait()
        self.tell_log()
        return code

    def tell_log(self) -> None:
        """Tell the log checker what was written since the last time."""
        if self._check_log and self.log.exists():
            with self.log.open("rb") as log:
                log.seek(self._told)
                text = log.read()
            self._told += len(text)
            relay(self.name, text.decode(errors="backslashreplace"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(address: Path | int) -> bool:
    """Whether somebody listens on a unix socket (path) or on a TCP port of 127.0.0.1."""
    family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
    with socket.socket(family) as probe:
        probe.settimeout(1)
        target = ("127.0.0.1", address) if isinstance(address, int) else str(address)
        try:
            probe.connect(target)
        except OSError:
            return False
        return True
