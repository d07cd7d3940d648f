"""Fault injection: verifies that runs and checkpoints survive kills, bit flips and full disks.

    make fault-injection          a few minutes
    make fault-injection N=8      the numbers of docs/reliability.md

Each fault must leave a run that resumes to the result of an undisturbed run, or an error:

- SIGKILL of training processes at random times during startup and training, each followed by a
  resume.
- SIGKILL of new runs during startup.
- SIGKILL of single processes of a run of several processes, which torchrun restarts.
- SIGINT, SIGTERM and SIGHUP at random times of the first two seconds of a process.
- SIGKILL of a process that saves checkpoints continuously.
- Flipped bits in a checkpoint, and truncated checkpoints.
- A full disk, at each size that a file of a run has.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import IO, Any

import torch

from ptblm.checkpoint.format import Checkpoint, load_checkpoint, save_checkpoint
from ptblm.errors import CheckpointError

SETTINGS = {
    "data.path": "sample",
    "model.hidden_size": "12",
    "model.dropout": "0.3",
    "training.batch_size": "10",
    "training.num_steps": "5",
    "training.schedule.full_rate_epochs": "2",
    "training.schedule.decay": "0.9",
    "run.checkpoint_every": "25 steps",
    "run.log_every": "20",
    "training.seed": "4",
}


def train(
    directory: Path, epochs: int, launcher: Sequence[str] = (), **options: Any
) -> "subprocess.Popen[str]":
    """Starts a process that trains in `directory`, resuming the run if there is one.

    Args:
        directory: run directory.
        epochs: number of epochs of the run.
        launcher: module, and its options, that starts ptblm.
        options: options of the process.
    """
    command = [sys.executable, "-m", *launcher, "ptblm", "train", "--resume", "auto", "--run-dir"]
    command += [str(directory), "--set", f"training.epochs={epochs}"]
    for key, value in SETTINGS.items():
        command += ["--set", f"{key}={value}"]
    return subprocess.Popen(  # noqa: S603 - trusted arguments
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options
    )


def finish(process: "subprocess.Popen[str]") -> str:
    """Waits for a process that must exit with code 0; returns its output on stderr."""
    _, errors = process.communicate()
    if process.returncode != 0:
        raise AssertionError(f"exit code {process.returncode}: {errors}")
    return errors


def digest(value: Any) -> str:
    """Returns a hash of nested tensors and plain values, except for measured times."""
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(value.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
    if isinstance(value, dict):
        times = ("seconds", "tokens_per_second")
        value = {str(key): digest(inner) for key, inner in value.items() if key not in times}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    if isinstance(value, list):
        return hashlib.sha256(json.dumps([digest(inner) for inner in value]).encode()).hexdigest()
    return repr(value)


def digest_of_run(directory: Path) -> str:
    """Returns a hash of weights, optimizer, hidden state, train state and metrics of a run."""
    checkpoint = load_checkpoint(directory / "checkpoints" / "last.safetensors")
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return digest(
        {"trainer": checkpoint.trainer_state(), "metrics": [json.loads(line) for line in lines]}
    )


def stderr_of(process: "subprocess.Popen[str]") -> IO[str]:
    """Returns the stderr pipe of a process."""
    if process.stderr is None:
        raise AssertionError("stderr is not a pipe")
    return process.stderr


def kill(process: "subprocess.Popen[str]") -> None:
    """Sends SIGKILL to a process, which must still be running."""
    process.kill()
    _, errors = process.communicate()
    if process.returncode != -signal.SIGKILL:
        raise AssertionError(f"the process ended before it was killed: {errors}")


def has_open(process: "subprocess.Popen[str]", path: Path) -> bool:
    """Returns whether a process has a file open; always True on systems without /proc."""
    if not Path("/proc").exists():
        return True
    with contextlib.suppress(OSError):  # the process may end, or close a file, during the search
        return any(
            fd.readlink() == path.resolve() for fd in Path(f"/proc/{process.pid}/fd").iterdir()
        )
    return False


def kill_in_training(directory: Path, epochs: int, rng: random.Random) -> float:
    """Kills a run at a random time after its first line of output, which ends its startup.

    Returns:
        Duration of the startup, in seconds.
    """
    start = time.monotonic()
    process = train(directory, epochs)
    stderr_of(process).readline()
    startup = time.monotonic() - start
    time.sleep(rng.uniform(0, 0.6))
    kill(process)
    return startup


def kill_at_start(
    directory: Path, epochs: int, seconds: float, rng: random.Random, *, in_directory: bool
) -> None:
    """Kills a run during startup: while it imports, reads its config, loads or creates files.

    Args:
        directory: run directory.
        epochs: number of epochs of the run.
        seconds: duration of the startup.
        rng: chooses the time of the kill.
        in_directory: whether to wait until the process has locked the run directory. Otherwise
            the time is drawn from the whole startup, which is mostly imports.
    """
    process = train(directory, epochs)
    while in_directory and process.poll() is None and not has_open(process, directory / "lock"):
        time.sleep(0.001)
    # The first line of output ends the startup, which can be shorter than measured.
    timeout = rng.uniform(0, 0.3 if in_directory else seconds)
    select.select([stderr_of(process)], [], [], timeout)
    kill(process)


def kill_while_training(parent: Path, kills: int, rng: random.Random) -> str:
    """Kills and resumes a run at random times; its result must equal that of a run without kills.

    Each kill during training is followed by a kill during the startup of the resumed run.
    """
    epochs = 2 + kills * 2 // 3
    finish(train(parent / "whole", epochs))
    expected = digest_of_run(parent / "whole")
    for number in range(kills):
        startup = kill_in_training(parent / "killed", epochs, rng)
        within = number % 2 == 0
        kill_at_start(parent / "killed", epochs, startup, rng, in_directory=within)
    finish(train(parent / "killed", epochs))
    if digest_of_run(parent / "killed") != expected:
        raise AssertionError(f"after {2 * kills} kills the result of the run is different")
    steps = load_checkpoint(parent / "killed" / "checkpoints" / "last.safetensors").trained()[1]
    return (
        f"{kills} kills during {steps:,} training steps and {kills} during startup of the resumed "
        "run: weights and metrics equal those without kills"
    )


def kill_new_runs(parent: Path, whole: Path, kills: int, rng: random.Random) -> str:
    """Kills new runs during startup.

    Each run is killed three times; its result must then equal that of the undisturbed run.
    """
    expected = digest_of_run(whole)
    startup = kill_in_training(parent / "measured", 9, rng)
    runs = (kills + 2) // 3
    for number in range(runs):
        directory = parent / f"new-{number}"
        for kill_number in range(3):
            within = kill_number != number % 3
            kill_at_start(directory, 1, startup, rng, in_directory=within)
        finish(train(directory, epochs=1))
        if digest_of_run(directory) != expected:
            raise AssertionError(
                f"{directory.name}: the result is different after kills during startup"
            )
    return f"{3 * runs} kills during startup of {runs} new runs: results equal those without kills"


def kill_one_of_several(parent: Path, kills: int, rng: random.Random) -> str:
    """Kills random processes of runs of two and three processes, which torchrun restarts.

    Each run has up to five kills, at random times of startup and of the first second of training.
    """
    expected: dict[int, str] = {}
    startup: dict[int, float] = {}
    killed = runs = 0
    while killed < kills:
        size, directory = 2 + runs % 2, parent / f"several-{runs}"
        if size not in expected:
            whole = parent / f"whole-{size}"
            start = time.monotonic()
            agent = train(whole, 3, torchrun(size))
            while agent.poll() is None and not (whole / "metrics.jsonl").exists():
                time.sleep(0.05)
            startup[size] = time.monotonic() - start
            finish(agent)
            expected[size] = digest_of_run(whole)
        agent = train(directory, 3, torchrun(size))
        for _ in range(min(5, kills - killed)):
            processes = children(agent)
            while agent.poll() is None and len(processes) != size:
                time.sleep(0.05)
                processes = children(agent)
            time.sleep(rng.uniform(0, startup[size] + 1))
            if processes and processes == children(agent):
                os.kill(rng.choice(processes), signal.SIGKILL)
                killed += 1
            while set(processes) & set(children(agent)):
                time.sleep(0.05)
        finish(agent)
        if digest_of_run(directory) != expected[size]:
            raise AssertionError(f"{directory.name}: the result is different after kills")
        runs += 1
    return (
        f"{killed} kills of one of two or three processes in {runs} runs: results equal those "
        "without kills"
    )


def torchrun(processes: int) -> list[str]:
    """Returns the launcher of a run of several processes that restarts up to five times."""
    options = ["--standalone", f"--nproc-per-node={processes}", "--max-restarts=5", "-m"]
    return ["torch.distributed.run", *options]


def children(process: "subprocess.Popen[str]") -> list[int]:
    """Returns the IDs of the processes that a process has started; none if it has ended."""
    try:
        text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def stop_at_random_times(parent: Path, signals: int, rng: random.Random) -> str:
    """Stops and resumes a run; each exit code must be that of the signal, without a traceback.

    A signal before the first line of ptblm ends the interpreter in its own way.
    """
    epochs = 1 + signals // 3
    finish(train(parent / "undisturbed", epochs))
    codes: dict[str, int] = {}
    for _ in range(signals):
        number = rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
        process = train(parent / "stopped", epochs, preexec_fn=default_signals)
        time.sleep(rng.uniform(0, 2))
        process.send_signal(number)
        _, errors = process.communicate()
        in_ptblm = process.returncode == 128 + number and "Traceback" not in errors
        if not in_ptblm and (process.returncode == 0 or "/ptblm/" in errors):
            raise AssertionError(f"{number.name}: exit code {process.returncode}: {errors}")
        how = "with its exit code" if in_ptblm else "before the first line of ptblm"
        codes[how] = codes.get(how, 0) + 1
    finish(train(parent / "stopped", epochs))
    if digest_of_run(parent / "stopped") != digest_of_run(parent / "undisturbed"):
        raise AssertionError(f"after {signals} signals the result of the run is different")
    exits = ", ".join(f"{count} {how}" for how, count in sorted(codes.items()))
    return f"{signals} stop signals: {exits}; the result equals that without signals"


def default_signals() -> None:
    """Restores the signals that a shell or `nohup` may have set to be ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def kill_while_saving(parent: Path, checkpoint: Checkpoint, kills: int, rng: random.Random) -> str:
    """Kills a process that saves continuously; the file must always be a complete checkpoint."""
    path = parent / "saved.safetensors"
    for number in range(kills):
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads
            child = os.fork()
        if child == 0:
            version = 0
            while True:
                version += 1
                save_checkpoint(path, replace(checkpoint, metrics_offset=version))
                os.write(writer, b"x")
        os.read(reader, 1)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(writer)
        saves = 1
        while block := os.read(reader, 65536):
            saves += len(block)
        os.close(reader)
        found = load_checkpoint(path).metrics_offset
        if found not in (saves, saves + 1):
            raise AssertionError(f"kill {number}: {saves} saves completed, found save {found}")
    return f"{kills} kills while saving: the file was always a complete checkpoint"


def flip_bits(parent: Path, checkpoint: Path, flips: int, rng: random.Random) -> str:
    """Flips one bit at a time; loading must raise an error or return the original values."""
    data = bytearray(checkpoint.read_bytes())
    expected = digest_of_checkpoint(checkpoint)
    path = parent / "flipped.safetensors"
    found = 0
    for position in rng.sample(range(len(data) * 8), flips):
        data[position // 8] ^= 1 << (position % 8)
        path.write_bytes(data)
        data[position // 8] ^= 1 << (position % 8)
        try:
            loaded = digest_of_checkpoint(path)
        except CheckpointError:
            found += 1
            continue
        if loaded != expected:
            raise AssertionError(
                f"flipped bit {position} was not detected and changed loaded values"
            )
    return (
        f"{flips:,} bits flipped in {len(data):,} bytes: {found:,} detected, "
        f"{flips - found:,} without effect"
    )


def truncate(parent: Path, checkpoint: Path, cuts: int) -> str:
    """Truncates a checkpoint at evenly spaced lengths; loading must raise an error."""
    data = checkpoint.read_bytes()
    path = parent / "truncated.safetensors"
    lengths = {len(data) * cut // cuts for cut in range(cuts)} | {0, 1, len(data) - 1}
    for length in lengths:
        path.write_bytes(data[:length])
        with contextlib.suppress(CheckpointError):
            load_checkpoint(path)
            raise AssertionError(f"a checkpoint truncated to {length} bytes was loaded")
    return f"{len(lengths)} truncated checkpoints: all rejected"


def digest_of_checkpoint(path: Path) -> str:
    """Returns a hash of all values of a checkpoint."""
    loaded = load_checkpoint(path)
    names = [field.name for field in fields(loaded) if field.compare]
    return digest({name: getattr(loaded, name) for name in names})


def fill_the_disk(parent: Path, whole: Path, limits: int) -> str:
    """Limits the size of files, as a full disk does; runs must exit cleanly and resume later.

    The limits are the sizes of the files of a run, one byte less than each, and evenly spaced
    sizes in between.
    """
    sizes = sorted({path.stat().st_size for path in whole.rglob("*") if path.is_file()})
    edges = {size - 1 for size in sizes} | set(sizes) | {0}
    edges |= {sizes[-1] * part // limits for part in range(limits)}
    codes: dict[int, int] = {}
    for number, limit in enumerate(sorted(edges)):
        directory = parent / f"full-{number}"

        def limited(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        process = train(directory, epochs=1, preexec_fn=limited)
        _, errors = process.communicate()
        codes[process.returncode] = codes.get(process.returncode, 0) + 1
        if process.returncode not in (0, 2, 4) or "Traceback" in errors:
            raise AssertionError(f"{limit} bytes: exit code {process.returncode}: {errors}")
        for path in directory.glob("checkpoints/*.safetensors"):
            load_checkpoint(path)
        # Without the limit, the run must resume to the same result. A run without checkpoints
        # cannot resume, so it is deleted first, as its user would do.
        if not list(directory.glob("checkpoints/*.safetensors")):
            shutil.rmtree(directory, ignore_errors=True)
        finish(train(directory, epochs=1))
        last = load_checkpoint(directory / "checkpoints" / "last.safetensors").trainer_state()
        if digest(last) != digest(
            load_checkpoint(whole / "checkpoints" / "last.safetensors").trainer_state()
        ):
            raise AssertionError(f"{limit} bytes: the result of the run is different")
    exits = ", ".join(f"{count} with exit code {code}" for code, count in sorted(codes.items()))
    return f"{len(edges)} sizes of a full disk: {exits}; all resumed to the same weights"


def main() -> None:
    """Runs all fault injections and prints their results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=1, help="multiplies the number of faults")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    n, rng = arguments.n, random.Random(arguments.seed)  # noqa: S311 - not for security
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name)
        finish(train(parent / "one", epochs=1))
        last = parent / "one" / "checkpoints" / "last.safetensors"
        start = time.monotonic()
        jobs: list[Callable[[], str]] = [
            lambda: flip_bits(parent, last, 500 * n, rng),
            lambda: truncate(parent, last, 100 * n),
            lambda: kill_while_saving(parent, load_checkpoint(last), 50 * n, rng),
            lambda: fill_the_disk(parent, parent / "one", limits=2 * n),
            lambda: kill_new_runs(parent, parent / "one", 9 * n, rng),
            lambda: kill_while_training(parent, 15 * n, rng),
            lambda: stop_at_random_times(parent, 40 * n, rng),
            lambda: kill_one_of_several(parent, 5 * n, rng),
        ]
        for job in jobs:
            print(f"{job()} ({time.monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
