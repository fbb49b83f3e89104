"""``thinfs config``: what is in effect, and where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from thinfs import config as configuration
from thinfs.cli import config_text

if TYPE_CHECKING:
    from thinfs.config import Config

_EXAMPLES = """
\b
Examples:
  thinfs config show
  thinfs config show > /etc/thinfs/config.toml
  thinfs config show --json | jq .cache
  thinfs config path
"""


@click.group(epilog=_EXAMPLES)
def command() -> None:
    """Show the configuration that is in effect."""


@command.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print values as JSON, without comments.")
@click.pass_obj
def show(config: Config, *, as_json: bool) -> None:
    """Print the whole configuration as TOML, every field with what it means.

    The output is a configuration file that says the same.
    """
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(config), indent=2))
    else:
        click.echo(config_text.render(config), nl=False)


@command.command("path")
def path() -> None:
    """Print where the configuration file is looked for; it need not exist."""
    click.echo(configuration.default_path())
