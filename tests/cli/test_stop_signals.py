"""Stop signals at random instants, from the start of the interpreter to the last of a command."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.conftest import plain_environment
from tests.run.helpers import default_signals, options

STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
SECONDS = 2.0  # time in which the signals are sent
# Until ptblm has installed its handlers, a signal has Python's default effect.
START_OF_PYTHON = 0.1
SMALL = [*options(["data.path=sample", "model.hidden_size=8"]), "--run-dir", "run"]


def stop(
    arguments: list[str], number: signal.Signals, delay: float, directory: Path
) -> tuple[int, str]:
    """Runs a command, sends a signal after `delay` seconds; returns exit code and stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ptblm", *arguments],
        cwd=directory,
        env=plain_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=default_signals,
    )
    time.sleep(delay)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def check_signals(count: int, finished: Path, directory: Path) -> Counter[str]:
    """Sends `count` signals, each to a new process; returns how often each command ended how."""
    chooser = random.Random(count)
    commands = {
        "train": ["train", *SMALL, "--resume", "auto", "--set", "training.epochs=1000"],
        "eval": ["eval", str(finished)],
        "--help": ["--help"],
        "checkpoint show": ["checkpoint", "show", str(finished)],
    }
    ends: Counter[str] = Counter()
    for index in range(count):
        name, number = list(commands)[index % 4], STOPS[chooser.randrange(3)]
        delay = chooser.uniform(0, SECONDS)
        code, errors = stop(commands[name], number, delay, directory)
        end = f"{name}: " + ("128+n" if code == 128 + number else "finished" if code == 0 else "-n")
        ends[end] += 1
        if delay < START_OF_PYTHON and code == -number:
            continue
        assert code in ((128 + number,) if name == "train" else (128 + number, 0)), (delay, errors)
        assert "Traceback" not in errors, (name, delay, errors)
        assert "Exception ignored" not in errors, (name, delay, errors)
    return ends
