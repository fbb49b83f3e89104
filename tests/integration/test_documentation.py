"""The documentation builds without a warning and shows commands that exist."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from thinfs.cli import install
from thinfs.cli.main import VERBS
from thinfs.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PAGES = [page for page in PAGES if "_build" not in page.parts]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def fenced(page: Path, language: str) -> Iterator[str]:
    """The code blocks of one language."""
    found = re.finditer(rf"(?ms)^```{language}\n(.*?)^```$", page.read_text())
    return (each[1] for each in found)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each ``thinfs`` command line that a page shows, without comments."""
    for block in fenced(page, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"[#$] thinfs\b", line):
                yield shlex.split(line[2:], comments=True)[1:]


def parse(words: list[str]) -> None:
    """Parse a command line as the command would, without running it.

    Raises:
        click.UsageError: no such verb, option or argument.
    """
    name, *rest = words
    verb = importlib.import_module(f"thinfs.cli.{name}").command
    assert isinstance(verb, click.Command)
    verb.make_context(name, rest)


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"),
            *("-d", str(tmp_path / "trees"), str(ROOT / "docs"), str(tmp_path / "html")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_commands_it_shows_exist(page: Path) -> None:
    for words in commands(page):
        parse(words)


def test_commands_are_found_in_pages() -> None:
    shown = [words[0] for page in PAGES for words in commands(page)]
    assert len(shown) > 10
    assert {"convert", "install", "mount", "serve", "status"} <= set(shown) <= set(VERBS)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_configuration_it_shows_is_accepted(page: Path) -> None:
    sections = set(Config.__struct_fields__)
    for block in fenced(page, "toml"):
        shown = tomllib.loads(block)
        for section in sections & set(shown):
            known = set(getattr(Config(), section).__struct_fields__)
            assert set(shown[section]) <= known


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_files_it_links_to_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_option_of_install_is_explained() -> None:
    text = (ROOT / "docs/installing.md").read_text()
    for parameter in install.command.params:
        assert parameter.opts[0] in text


def test_every_public_path_is_in_the_page_about_serving() -> None:
    text = (ROOT / "docs/serving.md").read_text()
    for folder in ("objects", "catalogs", "layers", "roots", "oci", "thinfs.json"):
        assert folder in text
