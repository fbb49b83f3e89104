"""Measuring: worlds are made, containers started in them, and what came out is collected.

One *world* is everything a start needs and nothing it could have left over: a containerd, a
daemon and snapshotter or whatever else the contestant needs, all of them new and private, in
a network namespace behind one line. In each world one container is started cold, and then,
when asked for, once again warm.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import thinfs
from thinfs.bench import nodes
from thinfs.bench.addresses import loopback_ports
from thinfs.bench.containerd import Containerd, pull_argv
from thinfs.bench.insight import Insight
from thinfs.bench.leftovers import kill_marked, unmount_below
from thinfs.bench.network import Network
from thinfs.bench.observer import Observer
from thinfs.bench.processes import LOGIN_OPTION, run
from thinfs.bench.readiness import Watch
from thinfs.bench.scratch import scratch
from thinfs.bench.statistics import AGREEMENT, disagreement
from thinfs.bench.values import Proxy, Report, Series, Start, Traffic
from thinfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thinfs.bench.containerd import Events
    from thinfs.bench.nodes import Node
    from thinfs.bench.scratch import Scratch
    from thinfs.bench.values import Contestant, Link, Ready
    from thinfs.control.values import Trace

DEFAULT_RUNS: Final = 3
DEFAULT_TIMEOUT_S: Final = 300.0
DEFAULT_SCRATCH: Final = Path("/var/tmp")  # noqa: S108 - the folders made in it are slots of ours

PROXY_VARIABLES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")
_CONTAINER: Final = "bench"
_NOTHING: Final = Traffic(0, 0, 0, 0, None, 0)
_CLIENTS: Final = ("ctr", "nsenter", "runc", "containerd-shim-runc-v2")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured.

    Attributes:
        image: for the report.
        contestants: at least one; the first is what is measured, the others are beside it.
        command: arguments in place of the image's; empty: the image's own.
        ready: when a container counts as ready.
        link: the line to the outside; ``None``: as fast as this machine is.
        runs: worlds for each contestant.
        warm: start each container a second time in its world.
        scratch: a directory on a disk with room for all of them, with a short path.
        timeout_s: longest pull, and longest start.
        hosts_dir: directory of ``<registry>/hosts.toml`` for ``ctr images pull``.
        plain_http: registries without TLS, as they stand in references, beside those of this
            machine's loopback.
        logins: registry → ``user:password`` for ``ctr images pull``.
        notes: for the report.
        witness: hears the daemon's trace of each cold start of thinfs.
    """

    image: str
    contestants: tuple[Contestant, ...]
    command: tuple[str, ...]
    ready: Ready
    link: Link | None = None
    runs: int = DEFAULT_RUNS
    warm: bool = False
    scratch: Path = DEFAULT_SCRATCH
    timeout_s: float = DEFAULT_TIMEOUT_S
    hosts_dir: Path | None = None
    plain_http: tuple[str, ...] = ()
    logins: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    witness: Callable[[Trace, Start], None] | None = None


def measure(plan: Plan, say: Callable[[str], None] = lambda _: None) -> Report:
    """Measure all contestants in turn, each as often as the plan says.

    Needs root: for containers, network namespaces and the page cache. Everything it makes is
    removed at the end, also after Ctrl-C; after a kill, by the next call on this machine.

    Args:
        plan: what.
        say: hears one line for people at each step.

    Raises:
        UsageError: this is not root.
        MissingError: a program is not installed; the message names it.
        StoreError: a container was not ready in time, or a program failed.
    """
    check_root()
    with scratch(plan.scratch) as place:
        return measure_in(place, plan, say)


def check_root() -> None:
    """Say now what would fail later.

    Raises:
        UsageError: this is not root.
    """
    if os.geteuid() != 0:
        raise UsageError("measuring starts containers and empties caches: run this as root")


def measure_in(place: Scratch, plan: Plan, say: Callable[[str], None] = lambda _: None) -> Report:
    """:func:`measure` in a scratch that the caller holds; ``plan.scratch`` is not looked at."""
    cold: dict[str, list[Start]] = {each.name: [] for each in plan.contestants}
    warm: dict[str, list[Start]] = {each.name: [] for each in plan.contestants}
    with Network(place.slot, plan.link, place.folder) as network:
        _expose(network, plan.contestants)
        for number in range(1, plan.runs + 1):
            for contestant in plan.contestants:
                say(f"{contestant.name}: start {number} of {plan.runs}")
                first, second = _measure_world(plan, contestant, place, network)
                cold[contestant.name].append(first)
                warm[contestant.name] += [second] if second else []
                say(f"{contestant.name}: ready after {first.ready_s:.2f} s")
        notes = (*plan.notes, *_notes(network))
    notes += _disagreements([start for starts in cold.values() for start in starts])
    return Report(
        image=plan.image,
        command=plan.command,
        ready=plan.ready,
        link=plan.link,
        series=tuple(
            Series(
                each.name,
                each.image,
                each.snapshotter,
                tuple(cold[each.name]),
                tuple(warm[each.name]),
            )
            for each in plan.contestants
        ),
        machine=_machine(),
        version=thinfs.__version__,
        made_unix_s=time.time(),
        notes=notes,
    )


def _measure_world(
    plan: Plan, contestant: Contestant, place: Scratch, network: Network
) -> tuple[Start, Start | None]:
    """A new world, one cold start in it, and a warm one if it is wanted."""
    folder = place.folder / "w"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "n").mkdir(parents=True)
    try:
        with contextlib.ExitStack() as stack:
            node = stack.enter_context(nodes.running(contestant, network, folder / "n"))
            containerd = stack.enter_context(
                Containerd(folder / "c", network, place.name, node.snapshotters)
            )
            stack.callback(containerd.end, _CONTAINER)
            if isinstance(contestant.node, Proxy) and not contestant.node.start:
                stack.callback(_remove_image, containerd, contestant.image)
            world = _World(plan, contestant, network, node, containerd)
            drop_page_cache()
            cold = world.start(pull=True)
            return cold, world.start(pull=False) if plan.warm else None
    finally:
        kill_marked(folder)
        unmount_below(folder)
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _World:
    """One world, ready for starts."""

    plan: Plan
    contestant: Contestant
    network: Network
    node: Node
    containerd: Containerd

    def start(self, *, pull: bool) -> Start:
        """Start the container and remove it when it was ready and all is quiet."""
        output = self.containerd.folder / "output"
        output.unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            observer = stack.enter_context(Observer(self.network))
            events = stack.enter_context(self.containerd.events())
            observer.settle()
            argv = self._pull_argv()
            thin = self.node.thin
            insight = stack.enter_context(Insight(thin)) if thin else None
            before, began = observer.received(), time.time()
            if pull:
                run(argv, timeout_s=self.plan.timeout_s)
            pulled = time.time()
            watch = self._watch(events, output)
            ready = self._run(watch, output)
            at_ready = observer.received()
            if insight:
                insight.note_ready()
            observer.settle()
            if insight:
                insight.note_settled()
            traffic = observer.traffic(began, ready, before, at_ready)
            details = insight.details(began, ready - began) if insight else None
            start = _times(began, pulled, ready, watch.output_at, events)
            self.containerd.end(_CONTAINER)
            start = replace(start, traffic=traffic, details=details)
            if insight and insight.trace and self.plan.witness and pull:
                self.plan.witness(insight.trace, start)
            return start

    def _watch(self, events: Events, output: Path) -> Watch:
        return Watch(self.plan.ready, self.network.namespace, output, events, _CONTAINER)

    def _run(self, watch: Watch, output: Path) -> float:
        snapshotter = f"--snapshotter={self.contestant.snapshotter}"
        options = ("--detach", "--net-host", f"--log-uri=file://{output}", snapshotter)
        names = (self.contestant.image, _CONTAINER)
        watch.start()
        try:
            self.containerd.ctr(
                *("run", *options, *names, *self.plan.command), timeout_s=self.plan.timeout_s
            )
            return watch.wait(self.plan.timeout_s)
        finally:
            watch.stop()

    def _pull_argv(self) -> list[str]:
        contestant, containerd = self.contestant, self.containerd
        if contestant.pull:
            values = {
                "address": str(containerd.address),
                "namespace": containerd.namespace,
                "snapshotter": contestant.snapshotter,
                "image": contestant.image,
                "folder": str(containerd.folder),
            }
            return self.network.argv(pull_argv(contestant.pull, values))
        options = [f"--snapshotter={contestant.snapshotter}"]
        registry = contestant.image.partition("/")[0]
        if self.plan.hosts_dir is not None:
            options.append(f"--hosts-dir={self.plan.hosts_dir}")
        if registry in self.plan.plain_http:
            options.append("--plain-http")
        if registry in self.plan.logins:
            options.append(f"{LOGIN_OPTION}{self.plan.logins[registry]}")
        options += local_pull(run(["ctr", "images", "pull", "--help"]))
        return containerd.ctr_argv("images", "pull", *options, contestant.image)


def local_pull(help_text: str) -> list[str]:
    """What lets ``ctr`` itself pull, where containerd 2 would: so that it may be any snapshotter.

    containerd's own transfer service unpacks only for snapshotters in its configuration.

    Args:
        help_text: of ``ctr images pull``.
    """
    return ["--local"] if "--local" in help_text else []


def _times(
    began: float, pulled: float, ready: float, output: float | None, events: Events
) -> Start:
    created = events.wait("/tasks/create", _CONTAINER).at_unix_s
    started = events.wait("/tasks/start", _CONTAINER).at_unix_s
    return Start(
        pulled_s=pulled - began,
        created_s=created - began,
        started_s=started - began,
        output_s=None if output is None or output > ready else output - began,
        ready_s=ready - began,
        traffic=_NOTHING,
        began_unix_s=began,
    )


def drop_page_cache() -> None:
    """Empty the kernel's caches; the programs that every start runs are read again.

    What is measured is the image: the same few programs from the disk would be the same for all.
    """
    os.sync()
    with contextlib.suppress(OSError):  # some sandboxes forbid it; then all starts have the cache
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    for name in _CLIENTS:
        path = shutil.which(name)
        if path:
            with Path(path).open("rb") as program:
                while program.read(1 << 20):
                    pass


def _expose(network: Network, contestants: Sequence[Contestant]) -> None:
    serving = {port for each in contestants for port in each.serving}
    for port in sorted(serving.union(proxy_ports(os.environ))):
        network.expose(port)


def proxy_ports(environment: Mapping[str, str]) -> set[int]:
    """Ports of this machine's loopback that are proxies for what it starts."""
    named = (environment.get(name, "") for name in PROXY_VARIABLES)
    return set(loopback_ports([url for url in named if url]))


def _remove_image(containerd: Containerd, image: str) -> None:
    containerd.ctr("images", "remove", "--sync", image)


def _notes(network: Network) -> tuple[str, ...]:
    notes = []
    if network.shaped_by:
        notes.append(f"The line is made by {network.shaped_by}.")
    if network.cut_off:
        notes.append(f"Nothing behind this machine could be reached: {network.cut_off}.")
    return tuple(notes)


def _disagreements(starts: Sequence[Start]) -> tuple[str, ...]:
    worst = max((disagreement(start) for start in starts), default=0.0)
    if worst <= AGREEMENT:
        return ()
    return (f"The daemon's count of bytes and the line's differ by {worst:.0%}: trust neither.",)


def _machine() -> str:
    return f"{platform.system()} {platform.release()}, {os.cpu_count()} processors"
