"""How a conversion is shown: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from thinfs.convert.image import ImageProgress

BAR_INTERVAL_S = 0.1
LINE_INTERVAL_S = 10.0
_MIB = 1 << 20


class ConvertProgress(ImageProgress, Protocol):
    """What the command shows of a conversion while its block runs."""

    def __enter__(self) -> ConvertProgress: ...

    def __exit__(self, *_: object) -> None: ...


def for_stderr(*, quiet: bool) -> ConvertProgress:
    """The fitting way to show progress on this process's stderr."""
    if quiet:
        return _Silent()
    return _Bars() if sys.stderr.isatty() else _Lines()


class _Context:
    """A context that has nothing to put away."""

    def __exit__(self, *_: object) -> None:
        return None


class _Silent(_Context):
    def __enter__(self) -> _Silent:
        return self

    def layer(self, digest: str, size: int, *, present: bool) -> None:
        pass

    def advance(self, digest: str, compressed_bytes: int) -> None:
        pass

    def merging(self) -> None:
        pass


class _Lines(_Context):
    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._spoke = time.monotonic()

    def __enter__(self) -> _Lines:
        return self

    def layer(self, digest: str, size: int, *, present: bool) -> None:
        self._sizes[digest] = size
        self._say(f"layer {_short(digest)}: {'already here' if present else _megabytes(size)}")

    def advance(self, digest: str, compressed_bytes: int) -> None:
        if time.monotonic() - self._spoke >= LINE_INTERVAL_S:
            share = 100 * compressed_bytes // max(self._sizes[digest], 1)
            self._say(f"layer {_short(digest)}: {share} %")

    def merging(self) -> None:
        self._say("merging the layers into one root")

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        print(text, file=sys.stderr, flush=True)


class _Bars:
    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}
        self._moved = 0.0

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def layer(self, digest: str, size: int, *, present: bool) -> None:
        text = f"layer {_short(digest)}" + (" (already here)" if present else "")
        self._tasks[digest] = self._progress.add_task(
            text, total=size, completed=size if present else 0
        )

    def advance(self, digest: str, compressed_bytes: int) -> None:
        now = time.monotonic()
        if now - self._moved >= BAR_INTERVAL_S:
            self._moved = now
            self._progress.update(self._tasks[digest], completed=compressed_bytes)

    def merging(self) -> None:
        for task in self._progress.tasks:
            self._progress.update(task.id, completed=task.total)
        self._progress.console.print("merging the layers into one root")


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _megabytes(size: int) -> str:
    return f"{size / _MIB:.1f} MiB"
