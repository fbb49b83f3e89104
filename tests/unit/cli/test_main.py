from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import msgspec
import pytest

from thinfs import config as configuration
from thinfs.cli import config_text
from thinfs.cli.main import VERBS, group, main
from thinfs.cli.status import ago, size
from thinfs.cli.text import printable
from thinfs.config import Config

if TYPE_CHECKING:
    from pathlib import Path

SECTIONS = {name: type(getattr(Config(), name)) for name in Config.__struct_fields__}


@pytest.fixture(autouse=True)
def no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own configuration has no say, and --config is forgotten after a test."""
    (tmp_path / "empty.toml").touch()
    monkeypatch.setenv("THINFS_CONFIG", str(tmp_path / "empty.toml"))


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help_with_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert "Usage: thinfs" in capsys.readouterr().out


def test_help_imports_no_verb() -> None:
    code = (
        "import sys; from thinfs.cli.main import main; main(['--help']);"
        "sys.exit(str(sorted(m for m in sys.modules if m.startswith('thinfs.cli.'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "mount" in done.stdout
    assert done.stderr.strip() == "['thinfs.cli.main', 'thinfs.cli.text']"


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["mount"], ["--nothing"], ["mount", "a", "b", "c"]]
)
def test_a_wrong_command_line_is_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "Error: " in capsys.readouterr().err


def test_errors_are_one_line_and_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(tmp_path / "none.toml"), "config", "show"]) == 2
    error = capsys.readouterr().err
    assert error == f"thinfs: configuration {tmp_path}/none.toml does not exist\n"


def test_ctrl_c_ends_cleanly(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(group, "get_command", lambda _ctx, _name: interrupted)
    assert main(["anything"]) == 130


def test_a_message_cannot_move_the_cursor() -> None:
    assert printable("a\x1b[2Jb\r\n c\u202e") == "a\ufffd[2Jb c\ufffd"


@pytest.mark.parametrize(("name", "section"), sorted(SECTIONS.items()))
def test_every_field_is_documented(name: str, section: type[msgspec.Struct]) -> None:
    summary, fields = config_text.documentation(section)
    assert summary.startswith(f"[{name}]: ")
    assert set(fields) == set(section.__struct_fields__)
    assert all(text.endswith((".", "use")) or len(text) > 5 for text in fields.values())


def test_what_is_shown_is_a_configuration_that_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "thinfs.toml"
    file.write_text('[sources]\nallow = ["https://example.org/"]\n[cache]\nlow_water = 0.5\n')
    assert main(["--config", str(file), "config", "show"]) == 0
    shown = tmp_path / "shown.toml"
    shown.write_text(capsys.readouterr().out)
    assert configuration.load(shown) == configuration.load(file)
    assert main(["--config", str(file), "config", "show", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values == msgspec.to_builtins(configuration.load(file))


def test_every_field_that_is_shown_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", "show"])
    lines = capsys.readouterr().out.splitlines()
    for number, line in enumerate(lines):
        if " = " in line and not line.startswith(("#", " ")):
            assert lines[number - 1].startswith("# ")


def test_the_place_of_the_configuration_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "path"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/empty.toml\n"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (20 << 30, "20.0 GiB"), (3 << 40, "3.0 TiB")],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (61, "1 min"), (3 * 3600 + 300, "3 h 5 min"), (200_000, "2 d 7 h")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert ago(seconds) == text
