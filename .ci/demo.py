"""``make demo``: a Redis image, converted and run lazily, beside a full pull of the same image.

Everything lives in one temporary folder and listens on free loopback ports; nothing of the
user's is read or changed, and all of it is stopped and removed at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support import needs, sweep  # noqa: E402 - the path comes first
from tests.support.containerd import Containerd  # noqa: E402
from tests.support.daemons import Node  # noqa: E402
from tests.support.processes import Process, accepts, free_port  # noqa: E402
from tests.support.redis_client import is_ready  # noqa: E402
from tests.support.redis_image import redis_image  # noqa: E402
from tests.support.registry import start_registry  # noqa: E402
from tests.support.wait import wait_until  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.registry import Registry

IMAGE: Final = "redis:4"
THIN: Final = "redis:4-thin"
FULL_NAME: Final = "docker.io/library/redis:4"
HUB: Final = "https://registry-1.docker.io/v2/"
HUB_TIMEOUT_S: Final = 4.0
READY_TIMEOUT_S: Final = 120.0
MAX_FETCHED_PART: Final = 0.15
TAIL_LINES: Final = 15
TAIL_COLUMNS: Final = 300
MB: Final = 1e6


@dataclass(frozen=True, slots=True)
class Start:
    """One start of Redis from nothing.

    Attributes:
        seconds: from the client's command, which pulls first, until PING was answered.
        bytes: what was transferred until then.
    """

    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Stage:
    """What all steps of the demo stand on.

    Attributes:
        registry: answers for docker.io.
        containerd: with the snapshotter ``thin``.
        node: thinfs daemon and thin-snapshotter.
        repository_url: where the repository will be served.
        nerdctl: whether containers are run by nerdctl, else by ctr.
    """

    registry: Registry
    containerd: Containerd
    node: Node
    repository_url: str
    nerdctl: bool


def main() -> int:
    """Run the demo; 0 when Redis answered from the thin image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--client", choices=("auto", "ctr"), default="auto", help="auto: nerdctl when there is one"
    )
    client = parser.parse_args().client
    if os.geteuid() != 0:
        return become_root()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = sweep.make_folder("demo")
    code = 1
    try:
        run(folder, client)
        code = 0
    except KeyboardInterrupt:
        say("Interrupted.")
        code = 130
    except Exception as error:  # whatever it is, its logs help
        show_failure(folder, error)
    finally:
        # A second Ctrl-C would leave mounts and containers behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sweep.sweep_folder(folder)
        left = sweep.mounts_below(folder)
        say("Everything is stopped and removed." if not left else f"Still mounted: {left}")
    return code


def become_root() -> int:
    """Only root can run containers: start again through sudo."""
    if shutil.which("sudo") is None:
        say("Containers need root, and there is no sudo here: run `make demo` as root.")
        return 1
    say("Containers need root: continuing through sudo.")
    command = ["sudo", "--", sys.executable, *sys.argv]
    return subprocess.run(command, check=False).returncode


def run(folder: Path, client: str) -> None:
    """All steps, in order."""
    with stage(folder, client) as on:
        size = provide_image(on.registry)
        convert(on)
        thin = start_lazily(on)
        full = start_fully(on, size)
    table(size, thin, full)


@contextlib.contextmanager
def stage(folder: Path, client: str) -> Iterator[Stage]:
    """A registry, a node, a server for its repository and a containerd, until the block ends."""
    with contextlib.ExitStack() as stack:
        step("Starting a registry (docker-registry)")
        registry = stack.enter_context(start_registry(folder))
        hosts = write_hosts(folder / "hosts", registry)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        step("Starting thinfs daemon and thin-snapshotter")
        node = Node(folder / "n", hosts_dir=hosts, allow=[f"{url}/"])
        stack.enter_context(node)
        step("Starting a containerd of our own")
        containerd = Containerd(
            folder / "c", snapshotters={"thin": node.snapshotter_socket}, hosts_dir=hosts
        )
        stack.enter_context(containerd)
        yield Stage(registry, containerd, node, url, nerdctl=client != "ctr" and has_nerdctl())


def has_nerdctl() -> bool:
    """Whether nerdctl is on PATH or was built by .ci/nerdctl."""
    try:
        return bool(needs.nerdctl())
    except needs.MissingToolError:
        return False


def write_hosts(directory: Path, registry: Registry) -> Path:
    """Let docker.io be answered by the local registry, as containerd's hosts.toml can."""
    (directory / "docker.io").mkdir(parents=True)
    (directory / "docker.io/hosts.toml").write_text(
        f'server = "http://{registry.address}"\n'
        f'[host."http://{registry.address}"]\n'
        '  capabilities = ["pull", "resolve", "push"]\n'
    )
    return directory


def provide_image(registry: Registry) -> int:
    """Put the image into the local registry; gives its compressed bytes."""
    target = f"docker://{registry.address}/library/{IMAGE}"
    if hub_answers():
        step(f"Copying {IMAGE} from Docker Hub to the local registry")
        if copy_image(f"docker://docker.io/library/{IMAGE}", target):
            return image_size(target)
        say("  Docker Hub refused; building the image instead.")
    step("Docker Hub does not answer: Redis from Debian packages (built once, in ~2 minutes)")
    source = redis_image().source
    step(f"Pushing it to the local registry as library/{IMAGE}")
    if not copy_image(source, target):
        raise RuntimeError(f"skopeo could not copy {source} to {target}")
    return image_size(target)


def hub_answers() -> bool:
    """Whether Docker Hub can be reached: it answers 401 to who has no token."""
    try:
        urllib.request.urlopen(HUB, timeout=HUB_TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
    return True


def copy_image(source: str, target: str) -> bool:
    """Copy one image with skopeo."""
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
    done = subprocess.run([*command, source, target], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        say(f"  {done.stderr.strip()}")
    return done.returncode == 0


def image_size(image: str) -> int:
    """Compressed bytes of an image: manifest's layers and configuration."""
    command = ["skopeo", "--insecure-policy", "inspect", "--raw", "--tls-verify=false", image]
    manifest = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    blobs = [manifest["config"], *manifest["layers"]]
    return sum(int(blob["size"]) for blob in blobs)


def convert(on: Stage) -> None:
    """``thinfs convert``, and its repository served over HTTP."""
    step(f"thinfs convert {IMAGE} --push {THIN}")
    answer = on.node.thinfs("convert", IMAGE, "--url", on.repository_url, "--push", THIN, "--json")
    say(f"  {json.loads(answer)['seconds']:.1f} s")


@contextlib.contextmanager
def served(on: Stage) -> Iterator[None]:
    """The repository over HTTP while the block runs."""
    address = on.repository_url.removeprefix("http://")
    port = int(address.rpartition(":")[2])
    server = Process(
        on.node.thinfs_argv("serve", "--listen", address), folder=on.node.folder, name="serve"
    )
    with server:
        server.wait_ready(lambda: accepts(port), "an open port")
        yield


def start_lazily(on: Stage) -> Start:
    """Start Redis from the thin image; counts what the client and the daemon transferred."""
    with served(on):
        client = "nerdctl" if on.nerdctl else "ctr"
        step(f"Running {THIN} lazily with {client} until PING is answered")
        before = on.node.status()["fetch"]["bytes"]
        with started(on, THIN, "thin") as seconds:
            fetched = on.node.status()["fetch"]["bytes"] - before
        remove_image(on.containerd, THIN, "thin")
    thin_size = image_size(f"docker://{on.registry.address}/library/{THIN}")
    return Start(seconds, fetched + thin_size)


def start_fully(on: Stage, size: int) -> Start:
    """The same with the whole image and overlayfs."""
    step(f"Running {IMAGE} with overlayfs: a full pull, from the same registry")
    with started(on, IMAGE, "overlayfs") as seconds:
        pass
    remove_image(on.containerd, IMAGE, "overlayfs")
    return Start(seconds, size)


@contextlib.contextmanager
def started(on: Stage, image: str, snapshotter: str) -> Iterator[float]:
    """Redis from ``image``, pulled and run, while the block runs; gives seconds until PONG."""
    drop_page_cache()
    port = free_port()
    begin = time.monotonic()
    run_redis(on, image, snapshotter, port)
    wait_until(lambda: is_ready(port), "Redis to answer PING", timeout_s=READY_TIMEOUT_S)
    seconds = time.monotonic() - begin
    say(f"  Redis answered PONG after {seconds:.2f} s")
    yield seconds
    if on.nerdctl:
        on.containerd.nerdctl("rm", "--force", "--volumes", "redis")
    else:
        on.containerd.remove_container("redis")


def run_redis(on: Stage, image: str, snapshotter: str, port: int) -> None:
    """Pull and run."""
    command = ("redis-server", "--port", str(port), "--save", "")
    flag = f"--snapshotter={snapshotter}"
    if on.nerdctl:
        options = ("--detach", "--name=redis", "--net=host", "--pull=missing")
        on.containerd.nerdctl(flag, "run", *options, image, *command)
        return
    name = f"docker.io/library/{image}"
    on.containerd.ctr("images", "pull", flag, f"--hosts-dir={on.containerd.hosts_dir}", name)
    # ctr's arguments replace the image's command but not its entry point.
    on.containerd.ctr("run", "--detach", "--net-host", flag, name, "redis", *command)


def remove_image(containerd: Containerd, image: str, snapshotter: str) -> None:
    """Remove an image and wait until its snapshots are gone."""
    containerd.ctr("images", "remove", "--sync", f"docker.io/library/{image}")
    wait_until(lambda: not containerd.snapshots(snapshotter), "snapshots to be collected")


def drop_page_cache() -> None:
    """Let each start read from the disk what it reads."""
    os.sync()
    with contextlib.suppress(OSError):  # some sandboxes forbid it; then both starts are warm
        Path("/proc/sys/vm/drop_caches").write_text("3\n")


def table(size: int, thin: Start, full: Start) -> None:
    """Print what was measured."""
    part = thin.bytes / size
    rows = [
        ("", "thin", "overlayfs"),
        ("image, compressed", f"{size / MB:.1f} MB", f"{size / MB:.1f} MB"),
        ("fetched until ready", f"{thin.bytes / MB:.1f} MB", f"{full.bytes / MB:.1f} MB"),
        ("part of the image", f"{part:.1%}", f"{full.bytes / size:.1%}"),
        ("seconds until ready", f"{thin.seconds:.2f}", f"{full.seconds:.2f}"),
    ]
    say("")
    for name, left, right in rows:
        say(f"  {name:<22}{left:>12}{right:>12}")
    say("")
    if part > MAX_FETCHED_PART:
        say(f"  More than {MAX_FETCHED_PART:.0%} of the image was fetched.")
    if thin.seconds >= full.seconds:
        say("  The full pull was ready sooner.")


def show_failure(folder: Path, error: Exception) -> None:
    """The error, then the end of every log."""
    say(f"\nFailed: {type(error).__name__}: {error}\n")
    for log in sorted(folder.rglob("*.log")):
        lines = log.read_text(errors="backslashreplace").splitlines()[-TAIL_LINES:]
        text = "\n".join(line[:TAIL_COLUMNS] for line in lines)
        say(f"--- {log.relative_to(folder)}\n{text}")


def step(text: str) -> None:
    """Announce a step."""
    say(f"* {text}")


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
