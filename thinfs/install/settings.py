"""The configuration file as it is installed: every field, its meaning and its default.

All values are comments, so that a later version may choose better defaults.
"""

from __future__ import annotations

from thinfs.install.stamp import stamped

_ABOUT = """\
# The configuration of thinfs. A line such as "#name = value" shows a default; take the "#" away
# to change it. `thinfs config show` prints what is in force.

"""


def commented(shown: str) -> bytes:
    """The file for a configuration as ``thinfs config show`` prints it, its values commented out.

    Args:
        shown: TOML with explanations as comments; keys at the beginning of lines.
    """
    lines = (f"#{line}" if _is_value(line) else line for line in shown.splitlines())
    return stamped(_ABOUT + "\n".join(lines) + "\n")


def _is_value(line: str) -> bool:
    """Whether a line is part of a value: no comment, no section, not empty."""
    return bool(line) and not line.startswith(("# ", "["))
