"""A process that fills a node cache until it is killed or done.

``cache_filler.py DIRECTORY QUOTA SEED COUNT`` writes a line after each of its rounds, so that a
test knows that it is at work.
"""

from __future__ import annotations

import sys
from pathlib import Path

from catalog.model import Content, Extent
from tests.support.reading import patterned, sha256
from thinfs.cache.directory import NodeCache
from thinfs.cache.partial import PartialFile
from thinfs.cache.plan import layout_digest
from thinfs.errors import StoreError

CHUNK = 64 << 10


def small(n: int) -> bytes:
    return patterned(1000 + n * 7919 % 60_000, n)


def large(n: int) -> bytes:
    return patterned(5 * CHUNK + n % 1000, n)


def fill_large(cache: NodeCache, body: bytes) -> None:
    extents = tuple(
        Extent(place, len(body[place : place + CHUNK]), sha256(body[place : place + CHUNK]), 0)
        for place in range(0, len(body), CHUNK)
    )
    content = Content(sha256(body), len(body), extents)
    part = PartialFile(cache, content, layout_digest(content))
    present = part.open()
    try:
        for index, extent in enumerate(extents):
            data = body[extent.offset : extent.offset + extent.length]
            if index not in present and not part.write(index, data):
                return  # evicted by the other process
        part.publish()
    finally:
        part.close()


def main() -> None:
    path, quota, seed, count = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    cache = NodeCache(path, max_bytes=quota, low_water=0.8)
    cache.open()
    for n in range(seed, seed + count):
        try:
            cache.add_contents({sha256(small(k)): small(k) for k in range(n * 3, n * 3 + 3)})
            fill_large(cache, large(n))
        except StoreError as error:
            sys.stderr.write(f"{error}\n")
        sys.stdout.write(f"{n}\n")
        sys.stdout.flush()
    cache.close()


if __name__ == "__main__":
    main()
