"""Runs all GPU checks: tests, benchmark, and full training runs of large and medium.

    make gpu-check
    python scripts/gpu_check.py --dry-run                          # prints the commands
    python scripts/gpu_check.py --train large-tied lstm-melis      # only trains these configs

Training resumes an interrupted run. The script continues after a failed command and exits with
code 1 if any command failed.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def commands(runs: Path, configs: Sequence[str] = ()) -> list[list[str]]:
    """Returns the commands in execution order.

    Args:
        runs: directory for the run directories and the results of the benchmark.
        configs: configs to train, without any other command; empty for all checks.
    """
    if configs:
        return [train_command(config, runs / f"gpu-{Path(config).stem}") for config in configs]
    python = sys.executable
    benchmark = str(runs / "gpu-bench.json")
    return [
        [python, "-m", "pytest", "-m", "gpu"],
        [python, "scripts/bench.py", "train", "--device", "cuda", "--json", benchmark],
        *(train_command(config, runs / f"gpu-{config}") for config in ("large", "medium")),
    ]


def train_command(config: str, run_dir: Path) -> list[str]:
    """Returns the command that trains a config or resumes its training."""
    options = ["--config", config, "--device", "cuda", "--precision", "tf32"]
    options += ["--run-dir", str(run_dir), "--resume", "auto"]
    return [sys.executable, "-m", "ptblm", "train", *options]


def main() -> int:
    """Runs the commands and returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="directory for results")
    parser.add_argument("--train", nargs="+", metavar="CONFIG", help="only train these configs")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    arguments = parser.parse_args()
    todo = commands(arguments.runs.resolve(), arguments.train or [])
    if arguments.dry_run:
        print("\n".join(shlex.join(command) for command in todo))
        return 0

    import torch

    if not torch.cuda.is_available():
        print("error: no CUDA device is available to torch", file=sys.stderr)
        return 2
    arguments.runs.mkdir(parents=True, exist_ok=True)
    failed = []
    for command in todo:
        print(f"$ {shlex.join(command)}", flush=True)
        if code := subprocess.run(command, cwd=REPOSITORY, check=False).returncode:  # noqa: S603
            failed.append(f"exit code {code}: {shlex.join(command)}")
    print("\n".join(failed) or "all commands succeeded")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
