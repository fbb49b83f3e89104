"""What cold starts are measured on: images, what runs in them, and when that is ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.small_image import small_image
from tests.support.redis_image import redis_image
from tests.support.science_image import jupyter_image, python_image
from thinfs.bench.values import Ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.image_cache import Layout


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of the table of cold starts.

    Attributes:
        name: in names of figures, of images and of containers.
        image: builds it, or finds it in the cache.
        command: what runs; empty: the image's own command.
        ready: when that has started.
        settled_s: seconds after which what runs on its own accord has read what it reads to
            start; ``None`` when it ends by itself.
    """

    name: str
    image: Callable[[], Layout]
    command: tuple[str, ...]
    ready: Ready
    settled_s: int | None = None


REDIS = Workload(
    "redis",
    redis_image,
    (),
    Ready("line", "Ready to accept connections"),
    settled_s=10,
)
PYTHON = Workload("python", python_image, ("python3", "-c", "import numpy, pandas"), Ready("exit"))
JUPYTER = Workload(
    "jupyter", jupyter_image, ("python3", "-m", "jupyterlab", "--version"), Ready("exit")
)
SMALL = Workload("small", small_image, (), Ready("exit"))
"""What is pulled and run in no time: it is measured for what every start costs besides."""

WORKLOADS = (REDIS, PYTHON, JUPYTER)
