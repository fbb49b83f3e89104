from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from snapshotter.recipes import MAX_RECIPE_BYTES, recognise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RECIPE = '{"version": "1.0", "origin": "x", "layers": []}'


def write(text: str | bytes) -> Callable[[Path], object]:
    data = text.encode() if isinstance(text, str) else text
    return lambda fs: (fs / "thin.json").write_bytes(data)


def beside(name: str) -> Callable[[Path], object]:
    def make(fs: Path) -> None:
        write(RECIPE)(fs)
        (fs / name).mkdir()

    return make


def linked(fs: Path) -> None:
    target = fs.parent / "outside.json"
    target.write_text(RECIPE)
    (fs / "thin.json").symlink_to(target)


@pytest.fixture
def fs(tmp_path: Path) -> Path:
    path = tmp_path / "fs"
    path.mkdir()
    return path


def test_a_layer_of_one_recipe_is_thin_and_its_text_is_kept_as_it_is(fs: Path) -> None:
    write(RECIPE)(fs)
    assert recognise(fs, "n", is_base=True) == RECIPE


def test_a_recipe_may_have_keys_and_a_version_of_its_own(fs: Path) -> None:
    text = json.dumps({"version": "2.0", "layers": [], "more": {"é": 1}}, ensure_ascii=False)
    write(text)(fs)
    assert recognise(fs, "n", is_base=True) == text


def test_the_largest_recipe_is_accepted(fs: Path) -> None:
    write(RECIPE + " " * (MAX_RECIPE_BYTES - len(RECIPE)))(fs)
    assert recognise(fs, "n", is_base=True) is not None


def test_a_layer_without_recipe_is_ordinary_and_nobody_is_warned(fs: Path) -> None:
    (fs / "thin.jsonx").write_text(RECIPE)
    (fs / "etc").mkdir()
    (fs / "etc/thin.json").write_text(RECIPE)
    assert recognise(fs, "n", is_base=True) is None


@pytest.mark.expects_log(r"snapshot n is not lazy, though it has a thin.json: ")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (beside("etc"), "the layer holds 'etc'"),
        (beside(".wh.x"), "the layer holds '.wh.x'"),
        (linked, "cannot be read"),
        (lambda fs: (fs / "thin.json").mkdir(), "not a regular file"),
        (lambda fs: os.mkfifo(fs / "thin.json"), "not a regular file"),
        (write(RECIPE + " " * MAX_RECIPE_BYTES), "larger than"),
        (write(""), "Expecting value"),
        (write(RECIPE[:-1]), "Expecting"),
        (write(b'\xff{"version": 1, "layers": []}'), "utf-8"),
        (write("[]"), "not a JSON object"),
        (write("[" * 100_000), "nested too deeply"),
        (write('{"layers": []}'), "no 'version'"),
        (write('{"version": "1.0"}'), "no 'layers'"),
    ],
)
def test_what_only_looks_like_a_thin_layer_stays_ordinary_with_the_reason_in_the_log(
    fs: Path, make: Callable[[Path], object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    make(fs)
    assert recognise(fs, "n", is_base=True) is None
    assert reason in caplog.text


@pytest.mark.expects_log("stacked upon another")
def test_a_recipe_on_top_of_another_layer_is_an_ordinary_file(fs: Path) -> None:
    write(RECIPE)(fs)
    assert recognise(fs, "n", is_base=False) is None
