"""What images share: by file, by object, by block of compressed layers, by layer: ``compare.*``.

The value is the part of the second image's files, in per cent of their bytes, that a node with
the first one has already; the reference is the same by 256 KiB blocks of the compressed layers.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.compare import compare
from tests.support.kept_repository import catalog_of
from tests.support.redis_image import redis_image
from tests.support.release_images import release_image
from tests.support.science_image import python_image
from tests.support.small_images import convert_here
from thinfs.config import RegistryConfig
from thinfs.repository.pieces import compare_layers

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog.compare import Shares
    from tests.support.image_cache import Layout

PAIRS: dict[str, tuple[Callable[[], Layout], Callable[[], Layout]]] = {
    "updates": (lambda: release_image("point"), lambda: release_image("updated")),
    "releases": (lambda: release_image("updated"), lambda: release_image("next")),
    "unrelated": (redis_image, python_image),
}


def run(prefixes: list[str]) -> list[dict[str, Any]]:
    """Convert each pair into an empty repository, the first one first, and compare."""
    wanted = [
        name for name in PAIRS if not prefixes or f"compare.{name}.".startswith(tuple(prefixes))
    ]
    return [row for name in wanted for row in _pair(name)]


def _pair(name: str) -> list[dict[str, Any]]:
    first, second = (make().source for make in PAIRS[name])
    with tempfile.TemporaryDirectory(prefix="compare-bench-") as folder:
        repository = Path(folder) / "repo"
        done = [
            convert_here(repository, image, f"example.org/{n}:1")
            for n, image in enumerate((first, second))
        ]
        roots = [each.images[0].recipe.thinfs for each in done]
        digests = [root.root.catalog.digest for root in roots if root is not None]
        with catalog_of(repository, digests[0]) as a, catalog_of(repository, digests[1]) as b:
            found = compare(a, b)
    ordinary = compare_layers(first, second, RegistryConfig(hosts_dirs=[]))
    kinds = {
        "files": found.contents,
        "objects": found.objects,
        "blocks": ordinary.blocks,
        "layers": ordinary.layers,
    }
    blocks = _percent(ordinary.blocks)
    rows: list[dict[str, Any]] = [
        {
            "name": f"compare.{name}.{kind}",
            "value": _percent(each),
            "unit": "%",
            "reference": blocks,
        }
        for kind, each in kinds.items()
    ]
    rows += [
        {"name": f"compare.{name}.{kind}.new", "value": each.only_b.bytes / 1e6, "unit": "MB"}
        for kind, each in kinds.items()
    ]
    return rows


def _percent(shares: Shares) -> float:
    return 100 * shares.shared.bytes / (shares.shared.bytes + shares.only_b.bytes)
