"""Sphinx: Markdown through MyST, the Furo theme, every warning an error (``make docs``)."""  # noqa: INP001 - Sphinx reads this file by its path

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "thinfs"
author = "The thinfs authors"
project_copyright = "The thinfs authors"
release = installed_version("thinfs")

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "thinfs"
html_copy_source = False
