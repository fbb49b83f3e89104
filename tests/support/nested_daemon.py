"""``thinfs daemon`` on a kernel that needs an overlay upon another for native roots.

What a newer kernel can do besides is not tried. The supervisor starts this module as its worker.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from thinfs import logs
from thinfs.config import load
from thinfs.daemon import worker
from thinfs.roots.layers import Layers
from thinfs.roots.probe import WAYS
from thinfs.supervisor.run import How, run

_NESTED = [way for way in WAYS if way.layers is Layers.NESTED]

if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        sys.exit(worker.main(_NESTED))
    logs.configure("DEBUG")
    os.environ["THINFS_CONFIG"] = sys.argv[1]
    command = (sys.executable, "-m", "tests.support.nested_daemon", "--worker")
    run(load(Path(sys.argv[1])), How(log_level="DEBUG", worker=command))
