"""``thinfs daemon`` on a kernel that needs an overlay upon another for native roots.

What a newer kernel can do besides is not tried.
"""

from __future__ import annotations

import sys
from pathlib import Path

from thinfs import logs
from thinfs.config import load
from thinfs.daemon.daemon import run
from thinfs.roots.layers import Layers
from thinfs.roots.probe import WAYS

if __name__ == "__main__":
    logs.configure("DEBUG")
    run(load(Path(sys.argv[1])), ways=[way for way in WAYS if way.layers is Layers.NESTED])
