"""Web servers for tests: each its own process on a free loopback port."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import needs
from tests.support.processes import Process, accepts, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_S = 20.0
SERVING_PAGE = Path(__file__).parents[2] / "docs/serving.md"

_NGINX_MAIN = """
daemon off;
master_process off;
user root;
worker_processes 1;
pid {work}/nginx.pid;
error_log {work}/error.log;
events {{ }}
http {{
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    {server}
}}
"""


def stop(process: subprocess.Popen[bytes]) -> int:
    """SIGTERM, then the exit code; a process that stays is killed and the test fails."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError("the server ignored SIGTERM") from None


@contextlib.contextmanager
def thinfs_serve(repository: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """``thinfs serve`` on a free port: its URL and process."""
    command = [
        *(sys.executable, "-m", "thinfs.cli.main", "serve"),
        *("--repo", str(repository), "--listen", "127.0.0.1:0", "--json", *options),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"], process
        finally:
            if process.poll() is None:
                stop(process)


def documented_nginx_server(repository: Path, port: int) -> str:
    """The ``server`` block of docs/serving.md with the two lines changed that a user changes."""
    found = re.search(r"^```nginx\n(.*?)^```$", SERVING_PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found, "docs/serving.md has no nginx configuration"
    text, roots = re.subn(r"(?m)^    root [^;]+;", f"    root {repository};", found[1])
    text, listens = re.subn(r"(?m)^    listen [^;]+;", f"    listen 127.0.0.1:{port};", text)
    assert (roots, listens) == (1, 1)
    return text


@contextlib.contextmanager
def nginx(
    repository: Path, folder: Path, *, log: Path | None = None, pem: Path | None = None
) -> Iterator[str]:
    """Debian's nginx with the documented configuration: its URL.

    Args:
        repository: what it serves.
        folder: for its configuration and its own files.
        log: where it writes a line for each request, which the documented one does not do.
        pem: key and certificate: TLS and HTTP/2, which the documented one leaves to its reader.
    """
    port = free_port()
    file = folder / "nginx.conf"
    server = documented_nginx_server(repository, port)
    if log is not None:
        server = server.replace("access_log off;", f"access_log {log};")
    if pem is not None:
        tls = (
            f"listen 127.0.0.1:{port} ssl http2; ssl_certificate {pem}; ssl_certificate_key {pem};"
        )
        server = server.replace(f"listen 127.0.0.1:{port};", tls)
    file.write_text(_NGINX_MAIN.format(work=folder, server=server))
    command: list[str | Path] = [
        needs.command("nginx", "nginx-light"),
        "-c",
        file,
        "-e",
        folder / "error.log",
    ]
    with Process(command, folder=folder, name="nginx") as process:
        process.wait_ready(lambda: accepts(port), "the port")
        yield f"http://127.0.0.1:{port}/" if pem is None else f"https://127.0.0.1:{port}/"
