"""What the package brings along: `addon-path`."""

from pathlib import Path

import click

from gateway_addon.cli.output import say

PACKAGE = Path(__file__).parents[1]

FILES = {
    "script": (PACKAGE / "script" / "addon.py",),
    "config": (PACKAGE / "gateway.example.toml",),
    # in a clone it lies with the other captures, from where the build takes it
    "demo": (PACKAGE / "demo.flow", PACKAGE.parent / "flows" / "demo.flow"),
}
"""Where each may be."""


@click.command()
@click.argument("what", type=click.Choice(tuple(FILES)), default="script")
def addon_path(what: str) -> None:
    """Where the script is that `mitmdump -s` loads; or the example configuration, or a recorded session to try."""
    say(str(next(path for path in FILES[what] if path.exists())))
