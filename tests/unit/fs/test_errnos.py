from __future__ import annotations

import errno

import pytest

import catalog.errors
import thinfs.errors
from thinfs.fs.errnos import ERRNOS, NotALink, StaleInode, errno_of, is_expected


def all_below(kind: type[Exception]) -> list[type[Exception]]:
    found = [kind]
    for below in kind.__subclasses__():
        found += all_below(below)
    return found


@pytest.mark.parametrize(
    "kind",
    all_below(thinfs.errors.ThinfsError) + all_below(catalog.errors.CatalogError),
    ids=lambda kind: kind.__name__,
)
def test_bytes_that_cannot_be_had_are_an_input_output_error(kind: type[Exception]) -> None:
    assert errno_of(kind("why")) == errno.EIO
    assert is_expected(kind("why"))


def test_an_errno_of_our_own_disk_is_not_passed_on() -> None:
    assert errno_of(FileNotFoundError(errno.ENOENT, "gone")) == errno.EIO


def test_a_defect_is_an_input_output_error_too() -> None:
    assert errno_of(KeyError("x")) == errno.EIO
    assert not is_expected(KeyError("x"))


def test_the_kernel_hears_what_a_number_was() -> None:
    assert errno_of(StaleInode()) == errno.ESTALE
    assert errno_of(NotALink()) == errno.EINVAL


def test_nothing_in_the_table_says_that_a_file_does_not_exist() -> None:
    assert errno.ENOENT not in ERRNOS.values()
