"""Options of the verbs that bring thin images somewhere."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from thinfs.convert.job import Containerd, Goals
from thinfs.errors import UsageError
from thinfs.oci.delivery import containerd_is_there

if TYPE_CHECKING:
    from collections.abc import Callable

CONTAINERD_SOCKET: Final = Path("/run/containerd/containerd.sock")

_OPTIONS: Final = (
    click.option("--push", metavar="REF", help="Push the thin image to a registry."),
    click.option("--output", metavar="oci:DIR:TAG", help="Write it to an OCI layout."),
    click.option(
        "--containerd/--no-containerd",
        default=None,
        help="Import it into the local containerd.  [default: when there is one and neither"
        " --push nor --output is given]",
    ),
    click.option(
        "--containerd-address",
        type=click.Path(path_type=Path),
        default=CONTAINERD_SOCKET,
        show_default=True,
        help="containerd's socket.",
    ),
    click.option(
        "--namespace", default="default", show_default=True, help="containerd's namespace."
    ),
)


def goal_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options; the command gets one argument for them, ``goals``."""

    @functools.wraps(command)
    def with_goals(
        *arguments: Any,
        push: str | None,
        output: str | None,
        containerd: bool | None,
        containerd_address: Path,
        namespace: str,
        **others: Any,
    ) -> None:
        if containerd is None:
            containerd = not push and not output and containerd_is_there(containerd_address)
        goals = Goals(
            push=push,
            layout=_layout(output) if output else None,
            containerd=Containerd(containerd_address, namespace) if containerd else None,
        )
        command(*arguments, goals=goals, **others)

    for option in reversed(_OPTIONS):
        option(with_goals)
    return with_goals


def _layout(output: str) -> tuple[Path, str]:
    scheme, _, rest = output.partition(":")
    directory, colon, tag = rest.rpartition(":")
    if scheme != "oci" or not colon or not directory or not tag:
        raise UsageError(f"--output {output!r} is not of the form oci:DIR:TAG")
    return Path(directory).absolute(), tag
