"""`ptblm download-data`."""

import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptblm.cli.completion import complete_dataset, complete_directory, complete_file
from ptblm.cli.options import parse_path
from ptblm.errors import UsageError
from ptblm.run.signals import clean_up_on_stop
from ptblm.terminal import counted, megabytes, print_output

if TYPE_CHECKING:
    from ptblm.corpus.datasets.base import Dataset

logger = logging.getLogger(__name__)


def _parse_url(text: str) -> str:
    if not text:
        raise typer.BadParameter("expected a URL, got ''")
    return text


def _parse_name(text: str) -> str:
    from ptblm.corpus.datasets import DATASETS

    if text not in DATASETS:
        raise typer.BadParameter(f"unknown corpus '{text}'; known are {', '.join(DATASETS)}")
    return text


def download_data(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Corpus, such as `ptb` or `wikitext-2`; `--list` shows all.",
            parser=_parse_name,
            autocompletion=complete_dataset,
        ),
    ] = "ptb",
    list_all: Annotated[
        bool, typer.Option("--list", help="List the corpora instead of downloading one.")
    ] = False,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Directory to download to.",
            show_default="data/NAME",
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
    """Download a corpus, the Penn Treebank by default, and verify its files.

    Each text has its own license, which is printed.
    """
    if url is not None and source is not None:
        raise UsageError("--url and --from cannot be combined", hint="pass one of the two options")
    from ptblm.corpus.datasets import DATASETS
    from ptblm.corpus.datasets.fetch import fetch

    if list_all:
        print_output(_table(DATASETS.values()))
        return
    clean_up_on_stop()
    dataset = DATASETS[name]
    result = fetch(dataset, to, urls=None if url is None else [url], source=source)
    if source is not None:  # a download prints it before it starts
        logger.info(f"license of {dataset.title}: {dataset.license}")
    logger.info(f"splits of {dataset.title}: {dataset.protocol}")
    for failure in result.failures:
        logger.warning(failure)
    if result.missing:
        logger.warning(f"not found: {', '.join(result.missing)}")
    if result.unverified:
        logger.warning(f"not verified: {', '.join(result.unverified)}; no checksum was published")
    names = [*result.verified, *result.unverified]
    files = counted(len(names), "file" if result.unverified else "verified file")
    print_output([f"{result.directory} contains {files}: {', '.join(names)}"])


def _table(datasets: Iterable["Dataset"]) -> list[str]:
    """Returns a line for each corpus that can be downloaded."""
    from ptblm.reporting.published import PUBLISHED_FOR_CORPUS

    rows = [("corpus", "download", "on disk", "tokenizer", "best published result, recurrent")]
    for dataset in datasets:
        published = PUBLISHED_FOR_CORPUS.get(dataset.name, [])
        best = min(published, key=lambda result: result.test or math.inf, default=None)
        rows.append(
            (
                dataset.name,
                megabytes(dataset.download_size),
                megabytes(dataset.disk_size),
                dataset.tokenizers[0],
                "-" if best is None else f"{best.test:g} {_unit(dataset)}, {best.source}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        f"{name:<{widths[0]}}  {download:>{widths[1]}}  {disk:>{widths[2]}}  "
        f"{tokenizer:<{widths[3]}}  {published}"
        for name, download, disk, tokenizer, published in rows
    ]


def _unit(dataset: "Dataset") -> str:
    return "bits" if dataset.tokenizers[0] == "byte" else "perplexity"
