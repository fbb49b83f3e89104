"""A real registry, Debian's docker-registry, on a free loopback port with storage of its own."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support import needs
from tests.support.processes import Process, accepts, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONFIG = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: "{root}"}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
"""
_TLS = """\
  tls: {{certificate: "{certificate}", key: "{key}"}}
"""
_HTPASSWD = """\
auth:
  htpasswd: {{realm: test, path: "{path}"}}
"""


@dataclass(frozen=True, slots=True)
class Registry:
    """A running registry.

    Attributes:
        address: ``127.0.0.1:<port>``, as it stands in image names.
        process: of the server.
        storage: where it keeps what was pushed.
    """

    address: str
    process: Process
    storage: Path

    def blob(self, digest: str) -> Path:
        """The file that holds a blob, for tests that damage it."""
        hexdigest = digest.removeprefix("sha256:")
        blobs = self.storage / "docker/registry/v2/blobs/sha256"
        return blobs / hexdigest[:2] / hexdigest / "data"


@contextlib.contextmanager
def start_registry(
    tmp: Path, *, tls: tuple[Path, Path] | None = None, htpasswd: Path | None = None
) -> Iterator[Registry]:
    """Run a registry for the length of a ``with`` block.

    Args:
        tmp: an existing folder; the registry makes its own below it.
        tls: PEM files of certificate and key; plain HTTP without.
        htpasswd: bcrypt lines of users that are let in; anyone without.
    """
    command = needs.command("docker-registry")
    port = free_port()
    folder = tmp / f"registry-{port}"
    storage = folder / "storage"
    storage.mkdir(parents=True)
    text = _CONFIG.format(root=storage, port=port)
    if tls:
        text += _TLS.format(certificate=tls[0], key=tls[1])
    if htpasswd:
        text += _HTPASSWD.format(path=htpasswd)
    config = folder / "config.yml"
    config.write_text(text)
    # it takes REGISTRY_* variables for settings: none of the user's shall reach it
    env = {"OTEL_TRACES_EXPORTER": "none"}
    assert not any(name.startswith("REGISTRY_") for name in os.environ)
    process = Process([command, "serve", config], folder=folder, name="docker-registry", env=env)
    with process:
        process.wait_ready(lambda: accepts(port), "an open port")
        yield Registry(f"127.0.0.1:{port}", process, storage)
