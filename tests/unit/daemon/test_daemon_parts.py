from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from thinfs.config import Config, DaemonConfig
from thinfs.daemon.metrics import MountCollector
from thinfs.daemon.plain import the_one_error
from thinfs.errors import StoreError
from thinfs.fs.underway import Underway
from thinfs.supervisor.lock import only_one
from thinfs.supervisor.notify import notify
from thinfs.supervisor.run import run

if TYPE_CHECKING:
    from pathlib import Path


def test_only_one_process_has_a_lock(tmp_path: Path) -> None:
    lock = tmp_path / "below/lock"
    with (
        only_one(lock, "the socket"),
        pytest.raises(StoreError, match=rf"process {os.getpid()}\) uses the socket: stop it"),
        only_one(lock, "the socket"),
    ):
        pass
    with only_one(lock, "the socket"):
        pass


def test_a_killed_process_has_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from thinfs.supervisor.lock import only_one\n"
        "with only_one(pathlib.Path(sys.argv[1]), 'x'): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], check=False)
    assert done.returncode == -9
    with only_one(tmp_path / "lock", "x"):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, abstract: bool
) -> None:
    name = f"@{folder}" if abstract else f"{folder}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_nobody_is_told_when_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


@pytest.mark.expects_log("cannot be told READY=1")
def test_a_service_manager_that_is_gone_is_no_reason_to_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "none"))
    notify("READY=1")


def test_a_socket_path_that_the_kernel_would_cut_is_refused(tmp_path: Path) -> None:
    config = Config(daemon=DaemonConfig(socket=str(tmp_path / ("x" * 108))))
    with pytest.raises(StoreError, match="may have at most 102 bytes"):
        run(config)


def test_requests_are_counted_by_operation() -> None:
    registry = CollectorRegistry()
    registry.register(MountCollector({"read": 2, "lookup": 3}, {"read": 1}, lambda: 4, Underway()))
    text = generate_latest(registry).decode()
    assert 'thinfs_fuse_requests_total{operation="lookup"} 3.0' in text
    assert 'thinfs_fuse_errors_total{operation="read"} 1.0' in text
    assert "thinfs_roots 4.0" in text


def test_one_error_comes_out_of_its_groups() -> None:
    inner = StoreError("why")
    assert the_one_error(BaseExceptionGroup("a", [ExceptionGroup("b", [inner])])) is inner
    two = BaseExceptionGroup("a", [inner, KeyError()])
    assert the_one_error(two) is two
