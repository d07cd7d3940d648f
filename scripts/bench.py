"""Benchmarks ptblm against PyTorch programs that train the same model.

    make bench                                              all sections
    python scripts/bench.py train --config small            one section, one config
    python scripts/bench.py train --device cuda --precision bf16 --steps 1000
    python scripts/bench.py train --compile                 also torch.compile
    python scripts/bench.py profile --config medium         time per operator
    python scripts/bench.py options --config medium         cost of each option
    python scripts/bench.py processes --config small        several processes that train together
    python scripts/bench.py heads                           softmaxes of 250,000 words

The train section compares a step of `ptblm train` with a PyTorch baseline, tuned PyTorch, autocast
and the GEMM-only time, which is the time of the matrix multiplications alone. Contenders alternate
in windows, and results are medians. The evaluation section compares ptblm with PyTorch scoring one
token at a time. The scores section compares `ptblm score` with and without columns, and batches
with one sentence at a time. The corpus section compares ptblm with a simple Python reader. The
startup section measures whole processes. The options section compares steps with and without each
option of a model or recipe. The heads section compares heads with a large vocabulary. The processes
section compares steps of two processes with and without the exchange of gradients, on the CPU.
Texts are random, so nothing is downloaded.
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
    """A section of the benchmark."""

    ALL = "all"
    TRAIN = "train"
    EVALUATION = "evaluation"
    SCORES = "scores"
    CORPUS = "corpus"
    STARTUP = "startup"
    PROFILE = "profile"
    OPTIONS = "options"
    PROCESSES = "processes"
    HEADS = "heads"


class Precision(enum.StrEnum):
    """Precision of matrix multiplications."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"


def main(
    section: Annotated[Section, typer.Argument(help="Section to measure.")] = Section.ALL,
    config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Shipped config or YAML file. Repeatable.",
            show_default="small, medium, large",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    precision: Annotated[
        list[Precision] | None,
        typer.Option(
            help="Precision of training. Repeatable.",
            show_default="fp32, bf16; all four on CUDA",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of measured training steps per contender.",
            show_default="40; 500 on CUDA",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="Corpus for training and evaluation.",
            show_default="random text: a million words, 10,000 distinct",
        ),
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Also measure torch.compile; needs a C++ compiler.")
    ] = False,
    megabytes: Annotated[
        int, typer.Option(min=10, help="Size of the text in the corpus section.")
    ] = 1000,
    times: Annotated[int, typer.Option(min=1, help="Measurements of each start-up time.")] = 7,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the results to FILE.")
    ] = None,
) -> None:
    """Benchmark ptblm against PyTorch. The last line of the output is the results as JSON."""
    from benchmark import flags  # noqa: F401 - records torch's defaults before ptblm changes them

    from ptblm.errors import PtblmError, UsageError

    configs = config or ["small", "medium", "large"]
    results: dict[str, Any] = {}
    try:
        if json_path and not json_path.parent.is_dir():
            raise UsageError(f"--json {json_path}: the directory {json_path.parent} does not exist")
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            os.environ["PTBLM_CACHE"] = str(directory / "cache")  # removed at the end
            text = data or str(_random_text(directory))
            job = Job(
                directory, text, device, configs, precision, steps, compiled, megabytes, times
            )
            measure(job, section, results)
    except PtblmError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
    finally:  # keep the results measured before an error
        if results.keys() - {"environment"}:
            line = json.dumps(as_json(results), allow_nan=False)
            print(f"\n{line}")
            if json_path:
                json_path.write_text(f"{line}\n", encoding="utf-8")


def _random_text(directory: Path) -> Path:
    from benchmark.text import write_text

    write_text(directory / "text.txt")
    return directory / "text.txt"


@dataclass(frozen=True)
class Job:
    """The command-line options. None means a default that depends on the device."""

    directory: Path
    text: str
    device: str
    configs: list[str]
    precisions: list[Precision] | None
    steps: int | None
    compiled: bool
    megabytes: int
    times: int


def measure(job: Job, section: Section, results: dict[str, Any]) -> None:
    """Measures one section, or all except the profile, the options, the heads and the processes.

    Prints tables and collects results.
    """
    import torch
    from benchmark.corpus import bench_corpus, corpus_lines
    from benchmark.evaluation import bench_evaluation, bench_test_split, evaluation_lines
    from benchmark.hardware import describe_hardware
    from benchmark.heads import bench_heads, heads_lines
    from benchmark.options import OPTIONS, bench_option, option_line, options_header
    from benchmark.processes import bench_processes, processes_lines
    from benchmark.profiling import profile_lines
    from benchmark.ptblm_run import make_config, pick_device
    from benchmark.scores import bench_scores, scores_lines
    from benchmark.startup import bench_startup, startup_lines
    from benchmark.train import bench_train, train_lines

    from ptblm.reporting.environment import describe_environment

    device = pick_device(job.device)
    hardware = describe_hardware(device)
    on_cuda = device.type == "cuda"
    precisions = job.precisions or (
        list(Precision) if on_cuda else [Precision.FP32, Precision.BF16]
    )
    steps = job.steps or (500 if on_cuda else 40)
    environment = describe_environment(sys.argv, 0, {"hardware": hardware})
    print(f"{shlex.join(sys.argv)}\n{hardware}; torch {torch.__version__}")
    results["environment"] = environment

    def config(name: str, precision: str = "fp32") -> "Config":
        return make_config(name, job.text, job.device, precision)

    def show(lines: list[str]) -> None:
        print("\n".join(lines), flush=True)

    def wanted(name: Section) -> bool:
        return section in (name, Section.ALL)

    if section == Section.PROFILE:
        for name, precision in itertools.product(job.configs, precisions):
            show(profile_lines(config(name, precision), steps))
    if section == Section.OPTIONS:
        results["options"] = []
        for name, precision in itertools.product(job.configs, precisions):
            show(options_header(name, config(name, precision)))
            for option in OPTIONS:
                found = {"config": name, **bench_option(config(name, precision), steps, option)}
                results["options"].append(found)
                show([option_line(found)])
    if section == Section.PROCESSES:
        results["processes"] = {}
        for name in job.configs:
            rows = bench_processes(config(name), steps, job.directory)
            results["processes"][name] = rows
            show(processes_lines(name, rows))
    if section == Section.HEADS:
        results["heads"] = bench_heads(device, steps)
        show(heads_lines(results["heads"]))
    if wanted(Section.TRAIN):
        results["train"] = []
        for name, precision in itertools.product(job.configs, precisions):
            found = bench_train(config(name, precision), steps, compiled=job.compiled)
            found["config"] = name
            results["train"].append(found)
            show(train_lines(found))
    if wanted(Section.EVALUATION):
        results["evaluation"] = []
        for name in job.configs:
            found = {"config": name, **bench_evaluation(config(name))}
            if name == "small":
                found["penn_treebank_test"] = bench_test_split(config(name))
            results["evaluation"].append(found)
            show(evaluation_lines(found))
    if wanted(Section.SCORES):
        results["scores"] = []
        for name in job.configs:
            found = {"config": name, **bench_scores(config(name))}
            results["scores"].append(found)
            show(scores_lines(found))
    if wanted(Section.CORPUS):
        results["corpus"] = bench_corpus(job.directory, job.megabytes)
        show(corpus_lines(results["corpus"]))
    if wanted(Section.STARTUP):
        name = job.configs[0]
        results["startup"] = bench_startup(job.directory, config(name), name, job.times)
        show(startup_lines(results["startup"]))


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
