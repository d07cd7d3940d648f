"""The options and arguments that commands share, and how the shell completes them."""

from pathlib import Path
from typing import Annotated

import typer


def complete_config(incomplete: str) -> list[str]:
    """Shipped configs, and YAML files of the directory."""
    from ptblm.config.loading import shipped_configs

    files = [str(path) for path in sorted(Path().glob(f"{incomplete}*.y*ml"))]
    return [name for name in shipped_configs() if name.startswith(incomplete)] + files


def complete_run(incomplete: str) -> list[str]:
    """The runs under `runs/`."""
    runs = Path("runs")
    found = [str(path) for path in runs.iterdir() if path.is_dir()] if runs.is_dir() else []
    return [path for path in sorted(found) if path.startswith(incomplete)]


ConfigName = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="NAME|FILE",
        help="A shipped config (small, medium, large, char, test) or a YAML file.",
        show_default="small",
        autocompletion=complete_config,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key of the config; may be repeated."
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|PATH",
        help="'ptb', 'sample' (embedded), a directory with {ptb.,}{train,valid,test}.txt, "
        "or a text file, cut by position.",
    ),
]
Device = Annotated[
    str | None, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
]
CheckpointOrRun = Annotated[
    Path, typer.Argument(metavar="CHECKPOINT|RUN_DIR", autocompletion=complete_run)
]
