"""Processes that a benchmark starts: with a log, waited for until ready, always ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Final, Self

from thinfs.errors import MissingError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

MARK: Final = "THINFS_BENCH_FOLDER"
"""Every process of a benchmark carries its folder in this variable; what it starts inherits it."""

LOGIN_OPTION: Final = "--user="
"""Begins an argument that no message may show."""

LOG_TAIL_LINES: Final = 12
_POLL_S: Final = 0.005


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = 30.0) -> None:
    """Return as soon as ``condition()`` is true.

    Raises:
        StoreError: it was not true within ``timeout_s`` seconds; the message names ``what``.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise StoreError(f"waited {timeout_s:g} s for {what}")
        time.sleep(_POLL_S)


class Process:
    """One running program; use it as a context manager.

    Args:
        argv: the command.
        folder: of the benchmark; the log is ``<name>.log`` in it.
        name: for the log and for messages.
        stdout: where its output goes; ``None``: into the log.

    Raises:
        MissingError: there is no such program.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        folder: Path,
        name: str,
        stdout: int | None = None,
        stdin: int = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            try:
                self.popen = subprocess.Popen(
                    [str(part) for part in argv],
                    stdin=stdin,
                    stdout=log if stdout is None else stdout,
                    stderr=log,
                    env={**os.environ, MARK: str(folder), **(env or {})},
                    start_new_session=True,  # Ctrl-C is for us, who end them in the right order
                )
            except FileNotFoundError as error:
                raise MissingError(f"{argv[0]} is not installed") from error

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None

    def wait_ready(self, ready: Callable[[], bool], what: str, *, timeout_s: float = 30.0) -> None:
        """Wait until ``ready()``.

        Raises:
            StoreError: it took too long, or the process ended before; with the end of its log.
        """

        def ready_or_ended() -> bool:
            if not self.running:
                raise StoreError(f"{self.name} ended before {what}: {self.tail()}")
            return ready()

        wait_until(ready_or_ended, f"{what} of {self.name} ({self.log})", timeout_s=timeout_s)

    def tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The end of its log."""
        text = self.log.read_text(errors="backslashreplace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, sig: int = signal.SIGTERM, *, timeout_s: float = 20.0) -> None:
        """End it, by SIGKILL when it does not heed ``sig`` in time."""
        if self.running:
            self.popen.send_signal(sig)
        try:
            self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()

    def close(self) -> None:
        """Close pipes to it; call it after :meth:`stop`, when nobody reads them any more."""
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.close()


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> str:
    """Run a command to its end; its standard output.

    Raises:
        MissingError: there is no such program.
        StoreError: it failed; the message has its last line of standard error.
    """
    command = [str(part) for part in argv]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(env or {})},
            timeout=timeout_s,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError as error:
        raise MissingError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise StoreError(f"{shown(command)}: no end after {timeout_s:g} s") from error
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        raise StoreError(f"{shown(command)}: {reason[0]}")
    return done.stdout


def shown(command: Sequence[str]) -> str:
    """A command for a message: without passwords."""
    return " ".join(
        f"{LOGIN_OPTION}…" if part.startswith(LOGIN_OPTION) else part for part in command
    )


def accepts(address: Path) -> bool:
    """Whether somebody listens on a unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(address))
        except OSError:
            return False
        return True
