"""Measures ptblm against a plain version of itself, in one run, in turn.

    make bench                                              everything, on this machine
    python scripts/bench.py train --config small            one section, one config
    python scripts/bench.py train --device cuda --precision bf16 --steps 1000
    python scripts/bench.py profile --config medium         where a step's time goes

Training: (a) the very step that `ptblm train` makes, (b) what a good engineer writes in ten
minutes with torch's own modules, (c) the floor, the step's matrix products alone as fast as
torch does them here. Evaluation against a model stepped one word at a time; reading a corpus
against a plain Python reader; start-up. Texts are made by chance, so nothing is downloaded.
"""

import enum
import itertools
import json
import os
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from benchmark.measure import as_json

if TYPE_CHECKING:
    from ptblm.config.schema import Config


class Section(enum.StrEnum):
    """What is measured."""

    ALL = "all"
    TRAIN = "train"
    EVALUATION = "evaluation"
    CORPUS = "corpus"
    STARTUP = "startup"
    PROFILE = "profile"


class Precision(enum.StrEnum):
    """Of training."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"


def main(
    section: Annotated[Section, typer.Argument(help="What to measure.")] = Section.ALL,
    config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Shipped config or YAML file; may be repeated.",
            show_default="small, medium, large",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    precision: Annotated[
        list[Precision] | None,
        typer.Option(
            help="Of training; may be repeated.", show_default="fp32, bf16; all four on CUDA"
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Training steps of each contender.", show_default="40; 500 on CUDA"
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="Corpus to train on and to evaluate.",
            show_default="made by chance: a million words, 10,000 different",
        ),
    ] = None,
    megabytes: Annotated[int, typer.Option(min=10, help="Size of the text that is read.")] = 1000,
    times: Annotated[int, typer.Option(min=1, help="Starts of each whole process.")] = 7,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there, too.")
    ] = None,
) -> None:
    """Measures ptblm against a plain version of itself; the last line has the figures, in JSON."""
    from benchmark import flags  # noqa: F401 - before ptblm, as it says

    from ptblm.errors import PtblmError, UsageError

    configs = config or ["small", "medium", "large"]
    figures: dict[str, Any] = {}
    try:
        if json_path and not json_path.parent.is_dir():
            raise UsageError(f"--json {json_path}: there is no directory {json_path.parent}")
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            os.environ["PTBLM_CACHE"] = str(directory / "cache")  # nothing is kept
            text = data or str(_made_text(directory))
            job = Job(directory, text, device, configs, precision, steps, megabytes, times)
            measure(job, section, figures)
    except PtblmError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
    finally:  # what was measured before something failed was measured all the same
        if figures.keys() - {"environment"}:
            line = json.dumps(as_json(figures), allow_nan=False)
            print(f"\n{line}")
            if json_path:
                json_path.write_text(f"{line}\n", encoding="utf-8")


def _made_text(directory: Path) -> Path:
    from benchmark.text import write_text

    write_text(directory / "text.txt")
    return directory / "text.txt"


@dataclass(frozen=True)
class Job:
    """What the command line asked for; None where it did not say."""

    directory: Path
    text: str
    device: str
    configs: list[str]
    precisions: list[Precision] | None
    steps: int | None
    megabytes: int
    times: int


def measure(job: Job, section: Section, figures: dict[str, Any]) -> None:
    """Measures a section, or all but the profile; prints tables, and puts down their figures."""
    import torch
    from benchmark.corpus import bench_corpus, corpus_lines
    from benchmark.evaluation import bench_evaluation, bench_test_split, evaluation_lines
    from benchmark.profiling import profile_lines
    from benchmark.startup import bench_startup, startup_lines
    from benchmark.train import bench_train, train_lines

    from ptblm.backend.device import choose_device
    from ptblm.config.loading import load_config
    from ptblm.reporting.environment import describe_environment

    device, said = choose_device(job.device)
    on_cuda = device.type == "cuda"
    precisions = job.precisions or (
        list(Precision) if on_cuda else [Precision.FP32, Precision.BF16]
    )
    steps = job.steps or (500 if on_cuda else 40)
    environment = describe_environment(sys.argv, 0, said)
    print(f"{shlex.join(sys.argv)}\n{environment['processor']}; {said}; torch {torch.__version__}")
    figures["environment"] = environment

    def config(name: str, precision: str = "fp32") -> "Config":
        flags = {"data.path": job.text, "run.device": job.device}
        return load_config(name, [], {**flags, "run.precision": precision})

    def show(lines: list[str]) -> None:
        print("\n".join(lines), flush=True)

    def wanted(name: Section) -> bool:
        return section in (name, Section.ALL)

    if section == Section.PROFILE:
        for name, precision in itertools.product(job.configs, precisions):
            show(profile_lines(config(name, precision), steps))
    if wanted(Section.TRAIN):
        figures["train"] = []
        for name, precision in itertools.product(job.configs, precisions):
            found = {"config": name, **bench_train(config(name, precision), steps)}
            figures["train"].append(found)
            show(train_lines(found))
    if wanted(Section.EVALUATION):
        figures["evaluation"] = []
        for name in job.configs:
            found = {"config": name, **bench_evaluation(config(name))}
            if name == "small":
                found["penn_treebank_test"] = bench_test_split(config(name))
            figures["evaluation"].append(found)
            show(evaluation_lines(found))
    if wanted(Section.CORPUS):
        figures["corpus"] = bench_corpus(job.directory, job.megabytes)
        show(corpus_lines(figures["corpus"]))
    if wanted(Section.STARTUP):
        name = job.configs[0]
        figures["startup"] = bench_startup(job.directory, config(name), name, job.times)
        show(startup_lines(figures["startup"]))


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
