"""Starting a mount in a process of its own, and hearing from it whether it serves.

The process reads its :class:`~thinfs.daemon.plain.MountJob` as JSON from standard input and
answers one :class:`Report` on standard output. Its log is a file.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from thinfs import errors, logs
from thinfs.daemon.plain import MountJob, run
from thinfs.errors import StoreError, ThinfsError

LOG_TAIL_LINES = 5


class Report(msgspec.Struct, frozen=True):
    """How it went.

    Attributes:
        error: name of the class in ``thinfs.errors``; empty when the mount serves.
        message: one line for a person.
    """

    error: str = ""
    message: str = ""


def log_file(job: MountJob) -> Path:
    """Where the process that serves a mountpoint writes its log."""
    name = hashlib.sha256(os.fsencode(job.mountpoint)).hexdigest()[:16]
    return Path(job.config.daemon.state) / "mounts" / f"{name}.log"


def start(job: MountJob) -> int:
    """Mount in the background; returns when the mount serves.

    Returns:
        The process that serves it.

    Raises:
        ThinfsError: what that process raised.
    """
    log = log_file(job)
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "thinfs.daemon.background"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                cwd="/",
                start_new_session=True,
            )
    except OSError as error:
        raise StoreError(f"{error.filename or log}: {error.strerror}") from error
    _hear(process, job, log)
    return process.pid


def _hear(process: subprocess.Popen[bytes], job: MountJob, log: Path) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with process.stdin as stdin:
            stdin.write(msgspec.json.encode(job))
        with process.stdout as stdout:
            answer = stdout.readline()
    except BaseException:
        process.terminate()
        raise
    if not answer:
        tail = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        raise StoreError(f"the process that mounts ended: {' / '.join(tail)} (log: {log})")
    report = msgspec.json.decode(answer, type=Report)
    if report.error:
        process.wait()
        raise getattr(errors, report.error, StoreError)(report.message)
    # It goes on without us: no warning that nobody waited for it.
    process.returncode = 0


def _answer(report: Report) -> None:
    """Say it, and let go of the pipe: whoever waits for our output must not wait longer."""
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def main() -> int:
    """Be the background process."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=MountJob)
    logs.configure(job.config.daemon.log_level)
    try:
        run(job, lambda: _answer(Report()))
    except ThinfsError as error:
        _answer(Report(type(error).__name__, str(error)))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
