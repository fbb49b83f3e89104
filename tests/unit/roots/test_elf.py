"""What programs say that they are going to load."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.elf_files import elf_file
from thinfs.errors import FormatError
from thinfs.roots import elf


def loaded(data: bytes) -> tuple[bytes, list[bytes]]:
    """A file's interpreter, and the libraries that it names."""
    program = elf.parse(data[: elf.HEAD_BYTES])
    interpreter = b""
    if program.interpreter is not None:
        interpreter = elf.text(cut(data, program.interpreter))
    if program.dynamic is None:
        return interpreter, []
    runs = program.names(cut(data, program.dynamic))
    return interpreter, [elf.text(cut(data, run)) for run in runs]


def cut(data: bytes, run: elf.Run) -> bytes:
    return data[run.offset : run.offset + run.length]


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_program_names_its_interpreter_and_its_libraries(wide: bool, order: str) -> None:
    data = elf_file(
        b"libone.so.1",
        b"libtwo.so",
        interpreter=b"/lib/ld.so",
        filler=bytes(5000),
        wide=wide,
        order=order,
    )
    assert loaded(data) == (b"/lib/ld.so", [b"libone.so.1", b"libtwo.so"])


def test_a_file_without_libraries_names_none() -> None:
    assert loaded(elf_file()) == (b"", [])


def test_a_real_program_is_understood() -> None:
    interpreter, _ = loaded(Path(sys.executable).read_bytes())
    assert interpreter.startswith(b"/")
    assert Path(interpreter.decode()).exists()


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF" + bytes(60)])
def test_what_is_no_program_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        elf.parse(data)


@given(st.binary(max_size=300), st.data())
def test_whatever_the_bytes_are_nothing_but_a_refusal_is_raised(
    noise: bytes, data: st.DataObject
) -> None:
    sound = bytearray(elf_file(b"libone.so", interpreter=b"/x", filler=noise))
    for _ in range(data.draw(st.integers(0, 8))):
        sound[data.draw(st.integers(4, len(sound) - 1))] = data.draw(st.integers(0, 255))
    try:
        program = elf.parse(bytes(sound[: elf.HEAD_BYTES]))
        names = program.names(bytes(sound)) if program.dynamic else []
    except FormatError:
        return
    assert len(names) <= elf.MAX_NAMES
    assert all(0 <= run.offset < 1 << 65 and run.length == elf.NAME_BYTES for run in names)
