"""`ptblm download-data`."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from ptblm.cli.completion import complete_directory, complete_file
from ptblm.cli.options import parse_path
from ptblm.errors import UsageError
from ptblm.run.signals import clean_up_on_stop
from ptblm.terminal import counted, print_output

logger = logging.getLogger(__name__)


def _parse_url(text: str) -> str:
    if not text:
        raise typer.BadParameter("expected a URL, got ''")
    return text


def download_data(
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Directory to download to.",
            show_default="data/ptb",
            parser=parse_path,
            autocompletion=complete_directory,
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Mirror: an archive, or a folder of files (ends with `/`).",
            parser=_parse_url,
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="ARCHIVE|DIR",
            help="Local archive or directory to copy from.",
            parser=parse_path,
            autocompletion=complete_file,
        ),
    ] = None,
) -> None:
    """Download the Penn Treebank and verify its files.

    The text is licensed for research only; see https://catalog.ldc.upenn.edu/LDC99T42.
    """
    if url is not None and source is not None:
        raise UsageError("--url and --from cannot be combined", hint="pass one of the two options")
    from ptblm.corpus.datasets import DATASETS
    from ptblm.corpus.datasets.fetch import fetch

    clean_up_on_stop()
    dataset = DATASETS["ptb"]
    result = fetch(dataset, to, urls=None if url is None else [url], source=source)
    logger.info(f"license of the {dataset.title}: {dataset.license}")
    for failure in result.failures:
        logger.warning(failure)
    if result.missing:
        logger.warning(f"not found: {', '.join(result.missing)}")
    names = ", ".join(result.verified)
    files = counted(len(result.verified), "verified file")
    print_output([f"{result.directory} contains {files}: {names}"])
