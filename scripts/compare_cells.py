"""Trains every cell with the same recipe and prints the table of docs/cells.md.

python scripts/compare_cells.py train runs/cells     # resumes an earlier call
python scripts/compare_cells.py table runs/cells
python scripts/compare_cells.py speed                # measures training steps alternately
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ptblm.config.loading import load_config
from ptblm.run.setup import setup_run
from ptblm.training.records import Record, StepDone

CELLS = {
    "lstm": ["model.cell=lstm"],
    "gru": ["model.cell=gru"],
    "slstm": ["model.cell=slstm"],
    "janet": ["model.cell=janet"],
    "mogrifier": ["model.cell=mogrifier"],
    "rlstm": ["model.cell=rlstm"],
    "sru": ["model.cell=sru"],
    "rnn": ["model.cell=rnn"],
    "gru, reset before": ["model.cell=gru", "model.cell.reset_gate=before"],
    "lstm, peepholes": ["model.cell=lstm", "model.cell.peepholes=true"],
    "rnn, relu": ["model.cell=rnn", "model.cell.activation=relu", "model.initializer=orthogonal"],
}
# Adam works with the same learning rate for all cells. With SGD and the learning rate of the small
# config, 1.0, cells without an output gate diverge.
RECIPE = ["training.optimizer=adam", "training.learning_rate=0.002", "training.schedule=cosine"]
UNFUSED = ["lstm", "gru"]


def train(directory: Path, epochs: int) -> None:
    """Trains all cells, each in a run directory with the name of the cell."""
    for name, options in CELLS.items():
        finished = [directory / name / file for file in ("result.json", "diverged.json")]
        if any(path.exists() for path in finished):
            continue
        command = [sys.executable, "-m", "ptblm", "train", "--config", "small", "--seed", "1"]
        command += ["--run-dir", str(directory / name), "--resume", "auto"]
        for option in [*options, *RECIPE, f"training.epochs={epochs}"]:
            command += ["--set", option]
        subprocess.run(command, check=False)  # noqa: S603 - fixed arguments


def table(directory: Path) -> None:
    """Prints the results of the runs in `directory`."""
    for name in CELLS:
        if (directory / name / "diverged.json").exists():
            print(f"| {name} | diverged |")
        elif (directory / name / "result.json").exists():
            result = json.loads((directory / name / "result.json").read_text())
            print(
                f"| {name} | {result['parameters']:,} | {result['train_perplexity']:.2f} "
                f"| {result['valid_perplexity']:.2f} | {result['test_perplexity']:.2f} |"
            )


def speed(steps: int) -> None:
    """Prints the training speed of every cell in tokens per second; the cells alternate."""
    records = {name: _records(options, fused=True) for name, options in CELLS.items()}
    for name in UNFUSED:
        records[f"{name}, unfused"] = _records(CELLS[name], fused=False)
    seconds: dict[str, list[float]] = {name: [] for name in records}
    tokens = 0
    for _ in range(steps):
        for name, steps_of_cell in records.items():
            start = time.perf_counter()
            record = next(steps_of_cell)
            seconds[name].append(time.perf_counter() - start)
            if isinstance(record, StepDone):
                tokens = record.tokens
    fused = statistics.median(seconds["lstm"])
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"| {name} | {tokens / median:,.0f} | {median / fused:.2f} |")


def _records(options: list[str], *, fused: bool) -> Iterator[Record]:
    trainer = setup_run(load_config("small", options)).trainer
    if not fused:  # disables only the kernels of the layers, unlike --no-fused
        for layer in trainer.model.recurrent.layers:
            layer.fused = False
    return trainer.records()


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("job", choices=["train", "table", "speed"])
    parser.add_argument("directory", type=Path, nargs="?", default=Path("runs/cells"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    match arguments.job:
        case "train":
            train(arguments.directory, arguments.epochs)
        case "table":
            table(arguments.directory)
        case "speed":
            speed(arguments.steps)


if __name__ == "__main__":
    main()
