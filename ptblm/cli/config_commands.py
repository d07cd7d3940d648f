"""`ptblm config`: list and show configs."""

from typing import Annotated

import typer

from ptblm.cli.completion import complete_config
from ptblm.cli.options import Set, parse_name
from ptblm.terminal import print_output

config_app = typer.Typer(help="List and show configs.", no_args_is_help=True)


@config_app.command("list")
def list_configs() -> None:
    """List the shipped configs, one per line."""
    from ptblm.config.loading import shipped_configs

    texts = [path.read_text(encoding="utf-8") for path in shipped_configs().values()]
    print_output(text.partition("\n")[0].removeprefix("# ") for text in texts)


@config_app.command("show")
def show_config(
    config: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="Shipped config or YAML file.",
            parser=parse_name,
            autocompletion=complete_config,
        ),
    ],
    overrides: Set = None,
) -> None:
    """Show a config with all keys, their values and descriptions, as a YAML file."""
    from ptblm.config.loading import load_config, shipped_header
    from ptblm.config.show import config_document

    document = config_document(load_config(config, overrides or [])).rstrip("\n").split("\n")
    header = [] if overrides else shipped_header(config)  # which describes the unchanged config
    print_output([*header, "", *document] if header else document)
