"""Letting a node's namespace reach what lies behind this machine: address translation.

What is changed on the machine is small, named after the slot, and taken back: three rules of
iptables, and forwarding on the device of the default route where it was off.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from thinfs.bench.processes import run
from thinfs.errors import MissingError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYSCTL: Final = Path("/proc/sys")
_RULE_TIMEOUT_S: Final = 30


def set_sysctl(name: str, value: str) -> None:
    """Write a kernel setting of the calling thread's network namespace.

    Args:
        name: with slashes: ``net/ipv4/ip_forward``.
        value: its text.
    """
    (_SYSCTL / name).write_text(value)


@contextlib.contextmanager
def reached(device: str, node_address: str, settings: Path) -> Iterator[str]:
    """Forward and translate for as long as the block runs.

    Args:
        device: the outside end of the node's line.
        node_address: of the node.
        settings: where changed settings are noted, for :func:`take_back` after a kill.

    Yields:
        Why nothing behind this machine can be reached; empty when it can.
    """
    try:
        problem = _reach(device, node_address, settings)
        yield problem
    finally:
        take_back(device, node_address, settings)


def take_back(device: str, node_address: str, settings: Path) -> None:
    """Remove rules and restore settings, as far as they are there."""
    for rule in rules(device, node_address):
        with contextlib.suppress(FileNotFoundError):
            subprocess.run(
                ["iptables", "-w", *_with_verb(rule, "-D")],
                capture_output=True,
                check=False,
                timeout=_RULE_TIMEOUT_S,
            )
    if settings.exists():
        for name, value in json.loads(settings.read_text()).items():
            with contextlib.suppress(OSError):  # its device is gone
                set_sysctl(name, value)
        settings.unlink()


def rules(device: str, node_address: str) -> list[list[str]]:
    """Rules of iptables, without a verb: table and chain come first."""
    return [
        ["nat", "POSTROUTING", "-s", node_address, "!", "-o", device, "-j", "MASQUERADE"],
        ["filter", "FORWARD", "-i", device, "-j", "ACCEPT"],
        ["filter", "FORWARD", "-o", device, "-j", "ACCEPT"],
    ]


def _reach(device: str, node_address: str, settings: Path) -> str:
    ways = [route["dev"] for route in json.loads(run(["ip", "-json", "route", "show", "default"]))]
    if not ways:
        return "this machine has no default route"
    names = [f"net/ipv4/conf/{each}/forwarding" for each in (device, *ways)]
    before = {name: (_SYSCTL / name).read_text().strip() for name in names}
    settings.write_text(json.dumps({name: value for name, value in before.items() if value == "0"}))
    try:
        for name in names:
            set_sysctl(name, "1")
        for rule in rules(device, node_address):
            run(["iptables", "-w", *_with_verb(rule, "-I")])
    except (OSError, StoreError, MissingError) as error:
        return str(error)
    return ""


def _with_verb(rule: list[str], verb: str) -> list[str]:
    table, chain, *match = rule
    return ["-t", table, verb, chain, *match]
