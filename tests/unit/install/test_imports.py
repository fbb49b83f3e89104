"""One entry in a containerd configuration, put in and taken out without a trace."""

from __future__ import annotations

import tomllib
from pathlib import PurePosixPath

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from thinfs.errors import FormatError, UsageError
from thinfs.install.imports import ENTRY, covers, with_entry, without_entry

DEBIAN = """\
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    # where CNI is
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
"""

TEXTS = {
    "Debian's": DEBIAN,
    "empty": "",
    "only a comment": "# nothing here\n",
    "without a version": '[plugins."x.y"]\nversion = 7\n',
    "no line feed at the end": "version = 2",
    "CRLF": 'version = 2\r\n\r\n[debug]\r\nlevel = "info"\r\n',
    "an empty list": "version = 2\nimports = []\n[debug]\n",
    "a list": 'version = 2\nimports = ["/etc/containerd/x.toml"] # mine\n[debug]\n',
    "a list of lines": 'imports = [\n  # first\n  "a.toml",\n  "b", # second\n]\nversion = 3\n',
    "a quoted key": "\"imports\" = ['a.toml']\n",
    "a list further down": 'version = 2\n[x]\nimports = ["other"]\n',
    "both": 'imports=["a"]\n[x]\nimports = ["other"]\n',
    "a trap in a string": 'root = """\nversion = 2\nimports = ["a"]\n"""\nversion = 2\n',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_entry_is_added_and_nothing_else_changes(text: str) -> None:
    before, after = tomllib.loads(text), tomllib.loads(with_entry(text, "x"))
    assert after.pop("imports") == [ENTRY, *before.pop("imports", [])]
    assert after == before


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_taking_it_out_gives_the_same_bytes_again(text: str) -> None:
    assert without_entry(with_entry(text, "x"), "x") == text


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_every_comment_stays(text: str) -> None:
    comments = [line for line in text.splitlines() if "#" in line]
    after = with_entry(text, "x")
    assert all(line.partition("#")[2] in after for line in comments)


def test_what_the_user_writes_after_installing_survives_uninstalling() -> None:
    edited = with_entry(DEBIAN, "x").replace("[plugins]", 'root = "/srv"\n[plugins]')
    assert without_entry(edited, "x") == DEBIAN.replace("[plugins]", 'root = "/srv"\n[plugins]')


def test_an_entry_that_the_user_moved_is_found() -> None:
    text = f'imports = [\n  "a.toml",\n  "{ENTRY}",\n]\n'
    assert tomllib.loads(without_entry(text, "x")) == {"imports": ["a.toml"]}
    last = f'imports = ["a.toml", "{ENTRY}"]\n'
    assert tomllib.loads(without_entry(last, "x")) == {"imports": ["a.toml"]}


def test_a_list_that_others_have_joined_stays() -> None:
    joined = with_entry("version = 2\n", "x").replace(f'"{ENTRY}"]', f'"{ENTRY}", "mine.toml"]')
    assert tomllib.loads(without_entry(joined, "x")) == {"version": 2, "imports": ["mine.toml"]}


def test_text_without_the_entry_stays_as_it_is() -> None:
    assert without_entry(DEBIAN, "x") == DEBIAN


def test_what_is_not_toml_is_refused_with_its_name() -> None:
    with pytest.raises(FormatError, match=r"/etc/c\.toml is not valid TOML"):
        with_entry("version = \n", "/etc/c.toml")


def test_imports_of_another_type_are_left_to_the_user() -> None:
    with pytest.raises(UsageError, match="by hand"):
        with_entry('imports = "a.toml"\n', "x")


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
VALUES = st.recursive(
    st.integers(-9, 9) | st.booleans() | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "version": st.integers(1, 4),
        "imports": st.lists(NAMES.filter(lambda name: name != ENTRY), max_size=3),
        "plugins": st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=3), max_size=3),
    },
)


@given(CONFIGS)
def test_any_configuration_comes_back_byte_for_byte(config: dict[str, object]) -> None:
    text = tomli_w.dumps(config)
    with_it = with_entry(text, "x")
    assert ENTRY in tomllib.loads(with_it)["imports"]
    assert without_entry(with_it, "x") == text


@pytest.mark.parametrize(
    ("imports", "covered"),
    [
        (["conf.d/thinfs.toml"], True),
        (["/etc/containerd/conf.d/thinfs.toml"], True),
        (["/etc/containerd/conf.d/*.toml"], True),
        (["conf.d/*.toml"], False),  # containerd 1.6 looks in its working directory
        (["/etc/containerd/*.toml"], False),
        (["/etc/containerd/conf.d/thinfs.toml.bak", 7], False),
        ([], False),
    ],
)
def test_imports_that_read_our_file_already_are_recognised(
    imports: list[object], *, covered: bool
) -> None:
    assert covers(imports, PurePosixPath("/etc/containerd")) is covered
