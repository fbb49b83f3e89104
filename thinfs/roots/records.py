"""What must survive a restart about roots: their recipes, slots and holders.

::

    <state>/slot            the highest slot that was ever given away, in decimal
    <state>/roots/<id>.json one record, replaced in one step

Slots are part of inode numbers. The highest one is written before it is used, so that no crash
gives the number of one tree to another one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec

from thinfs import atomic
from thinfs.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

EXPECTED: Final = "expected."
"""How holders begin that keep roots for containers which have not come: they end with a process."""

_MODE: Final = 0o600


class RootRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One root that somebody needs.

    Attributes:
        id: names it in paths.
        slot: its number in inode numbers, at least 1.
        recipe: the text of ``thin.json``.
        holders: who needs it, at least one.
    """

    id: str
    slot: int
    recipe: str
    holders: tuple[str, ...]


class RootRecords:
    """Records below one directory. Synchronous; every call may wait for the disk.

    Args:
        state: the directory; made if it is missing.

    Raises:
        StoreError: it cannot be written; so do all methods.
    """

    def __init__(self, state: Path) -> None:
        self._slot = state / "slot"
        self._folder = state / "roots"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _failed(error) from error

    def load(self) -> list[RootRecord]:
        """All records by slot. One that cannot be read is left out with an error in the log."""
        try:
            files = sorted(self._folder.glob("*.json"))
        except OSError as error:
            raise _failed(error) from error
        records = [record for file in files if (record := _read(file)) is not None]
        return sorted(records, key=lambda record: record.slot)

    def save(self, record: RootRecord) -> None:
        """Keep a record, in place of an earlier one of the same root."""
        try:
            atomic.write(self._file(record.id), msgspec.json.encode(record), mode=_MODE)
        except OSError as error:
            raise _failed(error) from error

    def delete(self, root_id: str) -> None:
        """Forget a root; nothing happens when it is not known."""
        try:
            self._file(root_id).unlink(missing_ok=True)
            atomic.sync_directory(self._folder)
        except OSError as error:
            raise _failed(error) from error

    def next_slot(self) -> int:
        """A slot that was never given away before."""
        try:
            slot = self._highest() + 1
            atomic.write(self._slot, b"%d\n" % slot, mode=_MODE)
        except OSError as error:
            raise _failed(error) from error
        return slot

    def _highest(self) -> int:
        used = [record.slot for record in self.load()]
        try:
            used.append(int(self._slot.read_bytes()))
        except FileNotFoundError:
            pass
        except ValueError:
            log.error("%s is damaged: going on behind the slots in use", self._slot)  # noqa: TRY400 - the traceback says nothing more
        return max(used, default=0)

    def _file(self, root_id: str) -> Path:
        return self._folder / f"{root_id}.json"


def _read(file: Path) -> RootRecord | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=RootRecord)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.error("root record %s is left out: %s", file, error)  # noqa: TRY400 - as above
        return None


def _failed(error: OSError) -> StoreError:
    return StoreError(f"{error.filename}: {error.strerror}")
