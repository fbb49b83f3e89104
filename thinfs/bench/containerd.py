"""A containerd of the benchmark's own, inside of a node's network, driven by ``ctr``."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import subprocess
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from thinfs.bench.processes import Process, accepts, run, wait_until
from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from thinfs.bench.network import Network

COMMAND_TIMEOUT_S: Final = 60.0
EVENT_TIMEOUT_S: Final = 30.0

# The plugins that stay out need kernel modules, devices or a network of their own.
_CONFIG: Final = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{folder}/c.sock"
"""
_PROXY: Final = """\
[proxy_plugins.{name}]
  type = "snapshot"
  address = "{socket}"
"""
_EVENT: Final = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d) (?P<time>\d\d:\d\d:\d\d)(?P<part>\.\d+)? (?P<zone>[+-]\d{4}) \S+ "
    r"\S+ (?P<topic>/\S+) (?P<body>\{.*\})"
)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of containerd.

    Attributes:
        at_unix_s: when it happened.
        topic: ``/tasks/start``.
        body: its fields.
    """

    at_unix_s: float
    topic: str
    body: Mapping[str, Any]


def parse_event(line: str) -> Event | None:
    """Read one line of ``ctr events``; ``None`` for anything else."""
    match = _EVENT.match(line)
    if match is None:
        return None
    stamp = dt.datetime.strptime(
        f"{match['day']} {match['time']} {match['zone']}", "%Y-%m-%d %H:%M:%S %z"
    )
    with contextlib.suppress(json.JSONDecodeError):
        body = json.loads(match["body"])
        return Event(stamp.timestamp() + float(match["part"] or 0), match["topic"], body)
    return None


class Events:
    """The events of a containerd while the block runs."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="events", daemon=True)
        self._thread.start()

    def find(self, topic: str, container: str) -> Event | None:
        """The first event of a topic about a container."""
        for event in list(self._events):
            if event.topic == topic and event.body.get("container_id") == container:
                return event
        return None

    def wait(self, topic: str, container: str) -> Event:
        """The same, waited for.

        Raises:
            StoreError: it does not come.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self.find(topic, container) is not None, timeout=EVENT_TIMEOUT_S
            )
        event = self.find(topic, container)
        if event is None:
            raise StoreError(f"containerd did not tell of {topic} of {container}")
        return event

    def any(self, topic: str) -> bool:
        """Whether there was an event of a topic."""
        return any(event.topic == topic for event in list(self._events))

    def close(self) -> None:
        """Stop listening."""
        self._process.stop()
        self._thread.join()
        self._process.close()

    def _read(self) -> None:
        assert self._process.popen.stdout is not None
        for line in self._process.popen.stdout:
            event = parse_event(line.decode(errors="replace"))
            if event is not None:
                with self._changed:
                    self._events.append(event)
                    self._changed.notify_all()


class Containerd:
    """A containerd with root, state and address of its own; a context manager.

    Args:
        folder: for all of it; short, for unix sockets are in it.
        network: it runs in its namespace.
        namespace: containerd's namespace for everything that is done.
        snapshotters: name and socket of proxy snapshotters.
    """

    def __init__(
        self, folder: Path, network: Network, namespace: str, snapshotters: Mapping[str, Path]
    ) -> None:
        self.folder = folder
        self.address = folder / "c.sock"
        self.namespace = namespace
        self._network = network
        self._snapshotters = snapshotters
        self._process: Process | None = None

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            MissingError: containerd or ctr is not installed.
            StoreError: it does not come up.
        """
        self.folder.mkdir()
        config = self.folder / "containerd.toml"
        proxies = (
            _PROXY.format(name=name, socket=socket) for name, socket in self._snapshotters.items()
        )
        config.write_text(_CONFIG.format(folder=self.folder) + "".join(proxies))
        self._process = Process(
            self._network.argv(["containerd", "--config", config, "--log-level", "warn"]),
            folder=self.folder,
            name="containerd",
        )
        try:
            self._process.wait_ready(lambda: accepts(self.address), "its socket")
            self.ctr("namespaces", "create", self.namespace)
        except BaseException:
            self._process.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.stop()

    def ctr_argv(self, *args: str | Path) -> list[str]:
        """The command line of a ctr command, in the node's network."""
        base: list[str | Path] = ["ctr", "--address", self.address, "--namespace", self.namespace]
        return self._network.argv([*base, *args])

    def ctr(self, *args: str | Path, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run ctr; its standard output.

        Raises:
            StoreError: it failed.
        """
        return run(self.ctr_argv(*args), timeout_s=timeout_s)

    @contextlib.contextmanager
    def events(self) -> Any:
        """The events from now on; containerd listens to us when the block begins."""
        process = Process(
            self.ctr_argv("events"), folder=self.folder, name="events", stdout=subprocess.PIPE
        )
        events = Events(process)
        try:
            self._check_that_they_come(events)
            yield events
        finally:
            events.close()

    def _check_that_they_come(self, events: Events) -> None:
        """A namespace's labels change until we are told of it."""
        count = iter(range(1_000_000))

        def told() -> bool:
            self.ctr("namespaces", "label", self.namespace, f"bench={next(count)}")
            return events.any("/namespaces/update")

        wait_until(told, "events of containerd", timeout_s=EVENT_TIMEOUT_S)

    def end(self, container: str) -> None:
        """End a container and remove it; no error when there is none."""
        for command in (
            ("tasks", "kill", "--signal", "SIGKILL", container),
            ("tasks", "delete", "--force", container),
            ("containers", "delete", container),
        ):
            with contextlib.suppress(StoreError):
                self.ctr(*command)


def pull_argv(template: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """A contestant's own pull command with its placeholders replaced."""
    return [replaced(part, values) for part in template]


def replaced(text: str, values: Mapping[str, str]) -> str:
    """``text`` with ``{name}`` replaced for the names in ``values``, and no other."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text
