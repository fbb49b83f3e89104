"""A node's network: a namespace, and a line to the outside with a rate and a delay.

The node's processes run in the namespace. Outside, in this machine's own network, are the
registries and repositories. The line between both is

- a veth pair as fast as the machine is, without a link;
- a veth pair with netem at both ends, where the kernel has netem;
- two TUN devices and :mod:`thinfs.bench.forwarder` elsewhere.

Addresses are of 198.18.0.0/15, which RFC 2544 sets aside for benchmarks. Addresses of this
machine itself, and everything behind it, are reached as from any machine behind it. A server
on this machine's 127.0.0.1 is reached by the node under the same address and port: packets to
exposed ports of loopback take the line, and the outside device takes them in (route_localnet).
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from thinfs.bench import forwarder
from thinfs.bench.namespaces import call_in
from thinfs.bench.outside import reached, set_sysctl
from thinfs.bench.processes import Process, run
from thinfs.bench.scratch import (
    name_of,
    node_address,
    node_device,
    outside_device,
    remove_network,
    settings_of,
)
from thinfs.errors import MissingError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinfs.bench.values import Link

VETH_HEADERS: Final = 14 + 52
"""Ethernet, IP and TCP headers (with timestamps) that a device counts with each packet."""

TUN_HEADERS: Final = 52

_NAMESPACES: Final = Path("/run/netns")
_LINE_TABLE: Final = 100
_NETEM_PACKETS: Final = 100_000
_DNS_PORT: Final = 53


class Network:
    """The namespace of one slot and its line; a context manager.

    Args:
        slot: see :mod:`thinfs.bench.scratch`.
        link: rate and delay; ``None``: as fast as this machine is.
        folder: for logs.

    Attributes:
        namespace: the file that names it.
        node_address: of the node on the line.
        outside_address: of this machine on the line.
        headers: bytes of headers that :attr:`device` counts with each packet.
        shaped_by: what makes rate and delay; empty without a link.
        cut_off: why nothing behind this machine is reached; empty when it is.
    """

    def __init__(self, slot: int, link: Link | None, folder: Path) -> None:
        self._slot = slot
        self._link = link
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self.namespace = _NAMESPACES / name_of(slot)
        self.outside_address = f"198.18.{slot}.1"
        self.node_address = node_address(slot)
        self.headers = VETH_HEADERS
        self.shaped_by = ""
        self.cut_off = ""

    @property
    def device(self) -> str:
        """The node's end of the line, in the namespace."""
        return node_device(self._slot)

    @property
    def outside_device(self) -> str:
        """The other end."""
        return outside_device(self._slot)

    def argv(self, argv: Sequence[str | Path]) -> list[str]:
        """A command line that runs ``argv`` in the namespace, in the same mount namespace."""
        return ["nsenter", f"--net={self.namespace}", "--", *(str(part) for part in argv)]

    def expose(self, port: int) -> None:
        """Let the node reach what listens at ``port`` of this machine's 127.0.0.1."""
        for protocol in ("tcp", "udp") if port == _DNS_PORT else ("tcp",):
            self._ip(
                *("rule", "add", "pref", "5", "to", "127.0.0.0/8", "ipproto", protocol),
                *("dport", str(port), "lookup", str(_LINE_TABLE)),
            )

    def __enter__(self) -> Self:
        """Make it.

        Raises:
            MissingError: ip or nsenter is not installed.
            StoreError: this is not root, or the kernel refuses.
        """
        with contextlib.ExitStack() as failing:
            failing.callback(self.__exit__)
            remove_network(self._slot)
            run(["ip", "netns", "add", name_of(self._slot)])
            self._make_line()
            self._address()
            self._let_loopback_out()
            settings = settings_of(self._slot)
            self.cut_off = self._stack.enter_context(
                reached(self.outside_device, self.node_address, settings)
            )
            failing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        remove_network(self._slot)

    def _ip(self, *args: str) -> None:
        run(["ip", "-n", name_of(self._slot), *args])

    def _make_line(self) -> None:
        if self._link is not None and not self._try_netem(self._link):
            self._start_forwarder(self._link)
        elif self._link is None:
            self._make_veth()

    def _make_veth(self) -> None:
        peer = ("peer", "name", self.device, "netns", name_of(self._slot))
        run(["ip", "link", "add", self.outside_device, "type", "veth", *peer])

    def _try_netem(self, link: Link) -> bool:
        """A veth pair with netem, if this kernel has it."""
        self._make_veth()
        outside = ["tc", "qdisc", "add", "dev", self.outside_device, *netem(link)]
        inside = ["tc", "-n", name_of(self._slot), "qdisc", "add", "dev", self.device]
        try:
            run(outside)
            run([*inside, *netem(link)])
        except (StoreError, MissingError):
            run(["ip", "link", "delete", self.outside_device])
            return False
        self.shaped_by = "netem"
        return True

    def _start_forwarder(self, link: Link) -> None:
        line = [str(link.bits_per_s), str(link.round_trip_s)]
        process = Process(
            [sys.executable, "-m", forwarder.__name__, self.outside_device, self.device, *line],
            folder=self._folder,
            name="link",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._stack.callback(_end_forwarder, process)
        assert process.popen.stdout is not None
        said = process.popen.stdout.readline().decode().strip()
        if said != forwarder.READY:
            raise StoreError(f"no line with a delay: {process.tail(1) or 'no TUN devices here'}")
        run(["ip", "link", "set", self.device, "netns", name_of(self._slot)])
        self.headers = TUN_HEADERS
        self.shaped_by = "thinfs.bench.forwarder"

    def _address(self) -> None:
        run(["ip", "address", "add", f"{self.outside_address}/30", "dev", self.outside_device])
        run(["ip", "link", "set", self.outside_device, "up"])
        self._ip("address", "add", f"{self.node_address}/30", "dev", self.device)
        self._ip("link", "set", "lo", "up")
        self._ip("link", "set", self.device, "up")
        self._ip("route", "add", "default", "via", self.outside_address)

    def _let_loopback_out(self) -> None:
        """Make :meth:`expose` work: the table for the line comes before the local one."""
        set_sysctl(f"net/ipv4/conf/{self.outside_device}/route_localnet", "1")
        call_in(self.namespace, self._take_in_loopback)
        default = ("default", "via", self.outside_address, "dev", self.device)
        self._ip("route", "add", *default, "src", self.node_address, "table", str(_LINE_TABLE))
        self._ip("rule", "add", "pref", "10", "lookup", "local")
        self._ip("rule", "delete", "pref", "0")
        self.expose(_DNS_PORT)  # a resolver on this machine's loopback

    def _take_in_loopback(self) -> None:
        """In the namespace: answers from 127.0.0.1 arrive through the line."""
        for setting, value in (
            (f"{self.device}/route_localnet", "1"),
            (f"{self.device}/accept_local", "1"),
            (f"{self.device}/rp_filter", "0"),
            ("all/rp_filter", "0"),
        ):
            set_sysctl(f"net/ipv4/conf/{setting}", value)


def _end_forwarder(process: Process) -> None:
    """Close its standard input, which ends it, and wait."""
    process.popen.communicate()


def netem(link: Link) -> list[str]:
    """Arguments of netem for one end of a line."""
    delay = f"{link.round_trip_s / 2 * 1e6:.0f}us"
    shape = ["delay", delay, "rate", f"{link.bits_per_s}bit", "limit", str(_NETEM_PACKETS)]
    return ["root", "netem", *shape]
