"""Images as data science has them: Python with numpy, pandas and the like, and JupyterLab.

A base system from Debian packages and one layer of packages from PyPI: many small files, some
large libraries. The larger one has more than 60 000 files in 2 GB.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support import image_cache, needs
from tests.support.image_cache import Layout, cached
from tests.support.layouts import make_layout
from tests.support.system_image import EPOCH_NS, debootstrap, layer_of, names_in

BASE = ("ca-certificates", "python3")
PYTHON = ("numpy", "pandas", "scikit-learn", "matplotlib")
JUPYTER = (
    *PYTHON,
    *("jupyterlab", "notebook", "ipywidgets", "seaborn", "plotly", "bokeh"),
    *("scipy", "sympy", "statsmodels", "networkx", "nltk", "scikit-image", "numba", "dask"),
    *("pyarrow", "boto3", "botocore", "google-api-python-client", "sqlalchemy"),
)
PIP_TIMEOUT_S = 1800
_PACKAGES = "usr/local/lib/python3.11/dist-packages"
_CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2025-01-01T00:00:00Z",
    "config": {"Cmd": ["python3"], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"]},
}
_SOURCES = tuple(
    Path(__file__).with_name(f"{name}.py")
    for name in ("science_image", "system_image", "tarwrite", "layouts")
)


def python_image() -> Layout:
    """Python with numpy, pandas, scikit-learn and matplotlib; at least 20 000 files."""
    return _image("python", PYTHON)


def jupyter_image() -> Layout:
    """JupyterLab and what people install beside it; at least 60 000 files, some 2 GB."""
    return _image("jupyter", JUPYTER)


def _image(name: str, packages: tuple[str, ...]) -> Layout:
    if not list(image_cache.CACHE.glob(f"{name}-*")):
        needs.root()
        needs.command("debootstrap")
    return cached(name, _SOURCES, lambda layout, work: _build(layout, work, name, packages))


def _build(layout: Path, work: Path, tag: str, packages: tuple[str, ...]) -> None:
    system = work / "system"
    debootstrap(system, BASE)
    base = names_in(system)
    _pip(system, packages)
    had = set(base)
    added = [name for name in names_in(system) if name not in had]
    make_layout(layout, tag, [layer_of(system, base), layer_of(system, added)], _CONFIG)
    shutil.rmtree(system)


def _pip(system: Path, packages: tuple[str, ...]) -> None:
    """Install wheels for Debian 12's Python with this machine's pip."""
    target = system / _PACKAGES
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target)),
        *("--python-version", "3.11", "--only-binary", ":all:", "--no-compile"),
    ]
    done = subprocess.run(
        [*command, *packages],
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PIP_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        needs.skip(f"needs PyPI; pip install failed: {done.stdout[-400:]}")
    _compile(system)


def _compile(system: Path) -> None:
    """Compile all modules for the times that their sources have in the image.

    Otherwise Python would compile them anew at each start, and starting would measure that.
    """
    library, packages = system / "usr/lib/python3.11", system / _PACKAGES
    for source in (*library.rglob("*.py"), *packages.rglob("*.py")):
        status = source.stat()
        os.utime(source, ns=(status.st_atime_ns, min(status.st_mtime_ns, EPOCH_NS)))
    command = [sys.executable, "-m", "compileall", "-q", "-j", "2", "-s", str(system), "-p", "/"]
    done = subprocess.run([*command, library, packages], capture_output=True, check=False)
    assert done.returncode in {0, 1}  # packages ship test files that do not compile
