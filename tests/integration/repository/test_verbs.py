"""What the verbs say to people, and how they end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.small_images import convert_all, image_name, make_images
from thinfs.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("verbs")
    convert_all(base / "repo", make_images(base / "in", 3))
    (base / "config.toml").write_text(f'[repository]\npath = "{base}/repo"\n')
    return base


@pytest.fixture
def run(made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a verb in this process; gives exit code, stdout and stderr."""
    monkeypatch.setenv("THINFS_CONFIG", str(made / "config.toml"))
    monkeypatch.setenv("COLUMNS", "150")

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = main([str(each) for each in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_check_says_what_it_looked_at(run: Run) -> None:
    code, out, err = run("check")
    assert code == 0
    assert re.fullmatch(r"3 images, \d+ files, [\d.]+ MiB: nothing wrong\n", out)
    assert err.splitlines()[0] == "checking names and images"


def test_check_names_what_is_wrong_and_who_needs_it(run: Run, made: Path) -> None:
    victim = next((made / "repo/metadata").glob("*/*"))
    body = victim.read_bytes()
    victim.write_bytes(body[:-4])
    code, out, _ = run("check", "--repo", made / "repo")
    victim.write_bytes(body)
    assert code == 5
    assert f"broken: metadata/{victim.parent.name}/{victim.name}: " in out
    assert re.search(r"\(needed by example.org/image:\d-thin\)", out)
    assert ": 1 wrong" in out


def test_gc_says_what_goes_and_what_waits(run: Run, made: Path) -> None:
    (made / "config2.toml").write_text(f'[repository]\npath = "{made}/copy"\n')
    convert_all(made / "copy", [f"oci:{made / 'in'}:{number}" for number in range(3)])
    code, out, _ = run("--config", made / "config2.toml", "rm", "example.org/image:1")
    assert (code, out) == (0, "removed: example.org/image:1-thin\n")
    code, out, _ = run("--config", made / "config2.toml", "gc", "--grace", "2d")
    assert code == 0
    assert "removed: 0 files" in out
    assert re.search(
        r"waiting: example.org/image:1-thin, removed \d+ s ago, goes in (2 d|47 h)", out
    )
    code, out, _ = run("--config", made / "config2.toml", "gc", "--grace=0", "--dry-run")
    assert re.search(r"would go: [1-9]\d* files, .* of objects", out)


def test_inspect_shows_layers_and_directories(run: Run) -> None:
    code, out, _ = run("inspect", "example.org/image:0")
    assert code == 0
    assert re.search(r"(?m)^origin +localhost/in:0@sha256:", out)
    assert "not known: no boot profile has been recorded" in out
    assert re.search(r"(?m)^/app +[\d.]+ MiB +12 *$", out)


def test_compare_shows_what_is_shared(run: Run, made: Path) -> None:
    originals = [f"oci:{made / 'in'}:{number}" for number in (0, 1)]
    names = [image_name(original) for original in originals]
    code, out, _ = run("compare", *names, "--originals", *originals)
    assert code == 0
    assert [line.split("  ")[0] for line in out.splitlines()] == [
        *("BY", "files", "objects", "256 KiB blocks", "layers")
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["rm", "nothing:1"], 3, "has no image nothing:1; it has: example.org/image:0-thin"),
        (["gc", "--grace", "7y"], 2, "is no duration such as"),
        (["gc", "--repo", "/nonexistent"], 3, "is not a thinfs repository"),
        (["check", "--repo", "/nonexistent"], 3, "is not a thinfs repository"),
        (["check", "--from", "/srv"], 2, "--repair needs --from"),
        (["load", "/nonexistent"], 3, "/nonexistent does not exist"),
        (["load", "/dev/null"], 4, "ends too early"),
        (["save", "nothing:1", "-o", "/tmp/x"], 3, "has no image nothing:1"),
        (["save", "example.org/image:0", "-o", "/nonexistent/x"], 7, "/nonexistent/x"),
        (["save", "example.org/image:0", "-o", "-", "--json"], 2, "stdout cannot be both"),
    ],
)
def test_a_users_mistake_is_one_line(run: Run, arguments: list[str], code: int, said: str) -> None:
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert said in err
    assert "Traceback" not in err
