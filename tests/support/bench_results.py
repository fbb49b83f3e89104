"""Made-up results of ``thinfs bench``: a start of some hundred reads, always the same."""

from __future__ import annotations

import hashlib
import random

from thinfs.bench import trace as traces
from thinfs.bench.values import (
    Details,
    Link,
    Ready,
    Report,
    Request,
    Sample,
    Series,
    Start,
    Traffic,
)
from thinfs.control.values import Trace, TraceEvent

BEGAN_UNIX_S = 1_800_000_000.0
PATHS = (
    "usr/bin/python3.11",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/python3/dist-packages/numpy/core/_multiarray_umath.cpython-311-x86_64-linux-gnu.so",
    "usr/lib/python3.11/encodings/__init__.py",
    "etc/ld.so.cache",
    "opt/a <b> & 'c' | d/x%FF.py",
)


def digest(text: str) -> str:
    """A digest that stands for something."""
    return hashlib.sha256(text.encode()).hexdigest()


def made_trace(reads: int = 300, *, ready_s: float = 0.9, seed: int = 1) -> Trace:
    """Attach, mount, boot bundles fetched ahead, and reads of which every third one waits."""
    chance = random.Random(seed)
    events = [
        TraceEvent("attach", 0.0, 0.02, "recipe"),
        TraceEvent("fetch", 0.005, 0.012, f"boots/{digest('boot')[:2]}/{digest('boot')}", 0, 9_000),
        TraceEvent("mount", 0.02, 0.015, "erofs"),
        TraceEvent("mount", 0.035, 0.004, "overlay"),
    ]
    for number in range(8):
        at = 0.02 + number * 0.015
        name = digest(f"bundle {number}")
        events.append(TraceEvent("prefetch", at, 0.012, name, 0, 380_000))
    names = [PATHS[n] if n < len(PATHS) else f"usr/lib/m{n}/file-{n}.py" for n in range(60)]
    for number in range(reads):
        at = 0.06 + number * (ready_s - 0.08) / reads
        path = names[chance.randrange(len(names))]
        waited = number % 3 == 0
        took = chance.uniform(0.001, 0.02) if waited else chance.uniform(2e-5, 3e-4)
        events.append(TraceEvent("open", at - 1e-4, 8e-5, digest(path)))
        events.append(TraceEvent("read", at, took, digest(path), 0, 16_384, waited))
        if waited:
            events.append(TraceEvent("fetch", at, took * 0.9, digest(f"o{number}"), 0, 21_000))
    events.append(TraceEvent("read", 0.05, 0.003, "metadata", 4096, 8192, waited=True))
    paths = {digest(path): path for path in names}
    return Trace("0123456789abcdef", "redis:4", BEGAN_UNIX_S + 0.1, events, 0, paths)


def made_start(ready_s: float = 1.0, *, thin: bool = True, bytes_: int = 10_000_000) -> Start:
    """One start; a thin one has details from :func:`made_trace`."""
    samples = tuple(Sample(ready_s * n / 50, bytes_ * n // 50) for n in range(1, 51))
    seen = tuple(Request(ready_s * n / 30, f"GET /objects/{n:02x}") for n in range(30))
    traffic = Traffic(bytes_, 9_000, bytes_ + 500, 9_100, 30, 4, samples, seen)
    pulled, created, started = (0.1, 0.2, 0.21) if thin else (0.9, 0.95, 0.96)
    return Start(
        pulled_s=ready_s * pulled,
        created_s=ready_s * created,
        started_s=ready_s * started,
        output_s=None,
        ready_s=ready_s,
        traffic=traffic,
        details=made_details(ready_s) if thin else None,
        began_unix_s=BEGAN_UNIX_S,
    )


def made_details(ready_s: float = 1.0) -> Details:
    """What a daemon knows of :func:`made_trace`."""
    trace = made_trace(ready_s=ready_s * 0.9)
    return Details(
        requests=120,
        bytes=9_980_000,
        settled_bytes=9_980_000,
        stalled_s=traces.stalled(trace, BEGAN_UNIX_S, ready_s),
        waits=traces.waits(trace, BEGAN_UNIX_S, ready_s),
        bars=traces.bars(trace, BEGAN_UNIX_S, ready_s),
        unread_bytes=1_200_000,
    )


def made_report(*ready_s: float, warm: bool = True) -> Report:
    """thinfs with these times until ready, beside overlayfs."""
    times = ready_s or (0.9, 1.0, 1.2)
    return Report(
        image="registry.example.org/team/app:1-thin",
        command=("python3", "-c", "import numpy, pandas"),
        ready=Ready("line", "Ready to <accept> | connections"),
        link=Link(1_000_000_000, 0.001),
        series=(
            Series(
                "thin",
                "registry.example.org/team/app:1-thin",
                "thin",
                tuple(made_start(each) for each in times),
                tuple(made_start(each / 8, bytes_=0) for each in times) if warm else (),
            ),
            Series(
                "overlayfs",
                "registry.example.org/team/app:1",
                "overlayfs",
                tuple(made_start(6 * each, thin=False, bytes_=80_000_000) for each in times),
                tuple(made_start(each / 9, thin=False, bytes_=0) for each in times) if warm else (),
            ),
        ),
        machine="Linux 6.18, 2 processors",
        version="0.1.0",
        made_unix_s=BEGAN_UNIX_S,
        notes=("The line is made by thinfs.bench.forwarder.",),
    )
