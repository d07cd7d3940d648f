"""Does to runs and checkpoints what the world does, and counts what is lost.

    make torture          a few minutes
    make torture N=8      the figures of docs/reliability.md

Kills a real training process at random instants, of its start as of its training, and resumes
it, until the kills are used up; the end must equal that of a run that nothing disturbed. Kills
starts of new runs. Kills a process that does nothing but save. Flips bits of a real checkpoint,
and cuts it short. Lets the disk be full at every size that a run's files have.
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
from collections.abc import Callable
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


def train(directory: Path, epochs: int, **options: Any) -> "subprocess.Popen[str]":
    """A real training process that goes on with the run in `directory`, or begins it."""
    command = [sys.executable, "-m", "ptblm", "train", "--resume", "auto", "--run-dir"]
    command += [str(directory), "--set", f"training.epochs={epochs}"]
    for key, value in SETTINGS.items():
        command += ["--set", f"{key}={value}"]
    return subprocess.Popen(  # noqa: S603 - our own command
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options
    )


def finish(process: "subprocess.Popen[str]") -> str:
    """Waits for a process that must end well; returns what it wrote to stderr."""
    _, errors = process.communicate()
    if process.returncode != 0:
        raise AssertionError(f"exit code {process.returncode}: {errors}")
    return errors


def digest(value: Any) -> str:
    """A hash of tensors and plain values, nested in any way; times are left out."""
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(value.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
    if isinstance(value, dict):
        timed = ("seconds", "tokens_per_second")
        value = {str(key): digest(inner) for key, inner in value.items() if key not in timed}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    if isinstance(value, list):
        return hashlib.sha256(json.dumps([digest(inner) for inner in value]).encode()).hexdigest()
    return repr(value)


def digest_of_run(directory: Path) -> str:
    """A hash of all that a run leaves: weights, optimizer, position, metrics."""
    checkpoint = load_checkpoint(directory / "checkpoints" / "last.safetensors")
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return digest(
        {"trainer": checkpoint.trainer_state(), "metrics": [json.loads(line) for line in lines]}
    )


def said(process: "subprocess.Popen[str]") -> IO[str]:
    """What a process writes to stderr."""
    if process.stderr is None:
        raise AssertionError("stderr is a pipe")
    return process.stderr


def kill(process: "subprocess.Popen[str]") -> None:
    """SIGKILL, to a process that is to be alive still."""
    process.kill()
    _, errors = process.communicate()
    if process.returncode != -signal.SIGKILL:
        raise AssertionError(f"ended by itself before it was killed: {errors}")


def kill_at_work(directory: Path, epochs: int, source: random.Random) -> float:
    """Kills a run from its first word on, when everything is loaded, to well into training.

    Returns:
        Seconds from the process's start to that word.
    """
    start = time.monotonic()
    process = train(directory, epochs)
    said(process).readline()
    loaded = time.monotonic() - start
    time.sleep(source.uniform(0, 0.6))
    kill(process)
    return loaded


def kill_at_start(
    directory: Path, epochs: int, seconds: float, source: random.Random, *, in_directory: bool
) -> None:
    """Kills a run before it trains: while it imports, reads its config, loads, makes files.

    Args:
        directory: of the run.
        epochs: of it.
        seconds: that a start takes.
        source: of the instant.
        in_directory: whether to wait first until the process holds the run's directory; else the
            instants are spread over all of the start, of which most is imports.
    """
    process = train(directory, epochs)
    lock, own = directory / "lock", f"{process.pid}\n"
    while in_directory and process.poll() is None:
        with contextlib.suppress(OSError):
            if lock.read_text() == own:
                break
        time.sleep(0.001)
    # Its first word ends the start, if that comes sooner than the last time.
    patience = source.uniform(0, 0.3 if in_directory else seconds)
    select.select([said(process)], [], [], patience)
    kill(process)


def kill_while_training(place: Path, kills: int, source: random.Random) -> str:
    """SIGKILLs at random instants, each followed by a resume; the end must be the same.

    After each kill at work comes one at the start: while the run is loaded that was killed.
    """
    epochs = 4 + (kills + 1) // 2
    finish(train(place / "whole", epochs))
    expected = digest_of_run(place / "whole")
    for number in range(kills):
        loaded = kill_at_work(place / "killed", epochs, source)
        within = number % 2 == 0
        kill_at_start(place / "killed", epochs, loaded, source, in_directory=within)
    finish(train(place / "killed", epochs))
    if digest_of_run(place / "killed") != expected:
        raise AssertionError(f"after {2 * kills} kills the run ended otherwise")
    steps = load_checkpoint(place / "killed" / "checkpoints" / "last.safetensors").trained()[1]
    return (
        f"{kills} kills while training {steps:,} steps, {kills} while going on with them: "
        "weights and metrics as without them"
    )


def kill_new_runs(place: Path, whole: Path, kills: int, source: random.Random) -> str:
    """SIGKILLs at random instants of the start of runs that are not there yet.

    Every run is killed three times, and must then end as the undisturbed one did.
    """
    expected = digest_of_run(whole)
    loaded = kill_at_work(place / "measured", 9, source)
    runs = (kills + 2) // 3
    for number in range(runs):
        directory = place / f"new-{number}"
        for kill_number in range(3):
            within = kill_number != number % 3
            kill_at_start(directory, 1, loaded, source, in_directory=within)
        finish(train(directory, epochs=1))
        if digest_of_run(directory) != expected:
            raise AssertionError(f"{directory.name} was killed at its start and ended otherwise")
    return f"{3 * runs} kills at the start of {runs} new runs: all ended as without them"


def kill_while_saving(
    place: Path, checkpoint: Checkpoint, kills: int, source: random.Random
) -> str:
    """SIGKILLs of a process that saves without pause; there must always be a whole file."""
    path = place / "saved.safetensors"
    for number in range(kills):
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
            child = os.fork()
        if child == 0:
            version = 0
            while True:
                version += 1
                save_checkpoint(path, replace(checkpoint, metrics_offset=version))
                os.write(writer, b"x")
        os.read(reader, 1)
        time.sleep(source.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(writer)
        said = 1
        while block := os.read(reader, 65536):
            said += len(block)
        os.close(reader)
        found = load_checkpoint(path).metrics_offset
        if found not in (said, said + 1):
            raise AssertionError(f"kill {number}: {said} saves were done, found number {found}")
    return f"{kills} kills while saving: always the last checkpoint or the one under way, whole"


def flip_bits(place: Path, checkpoint: Path, flips: int, source: random.Random) -> str:
    """Flips one bit at a time; it must be found, or change nothing that is loaded."""
    data = bytearray(checkpoint.read_bytes())
    expected = digest_of_checkpoint(checkpoint)
    path = place / "flipped.safetensors"
    found = 0
    for position in source.sample(range(len(data) * 8), flips):
        data[position // 8] ^= 1 << (position % 8)
        path.write_bytes(data)
        data[position // 8] ^= 1 << (position % 8)
        try:
            loaded = digest_of_checkpoint(path)
        except CheckpointError:
            found += 1
            continue
        if loaded != expected:
            raise AssertionError(f"bit {position} changed what was loaded, and was not found")
    return (
        f"{flips:,} bits flipped in {len(data):,} bytes: {found:,} found, "
        f"{flips - found:,} harmless (the same was loaded)"
    )


def cut_short(place: Path, checkpoint: Path, cuts: int) -> str:
    """Cuts a checkpoint at so many lengths, evenly spread; each must be refused."""
    data = checkpoint.read_bytes()
    path = place / "cut.safetensors"
    lengths = {len(data) * cut // cuts for cut in range(cuts)} | {0, 1, len(data) - 1}
    for length in lengths:
        path.write_bytes(data[:length])
        with contextlib.suppress(CheckpointError):
            load_checkpoint(path)
            raise AssertionError(f"a checkpoint of {length} bytes was loaded")
    return f"{len(lengths)} checkpoints cut short: all refused"


def digest_of_checkpoint(path: Path) -> str:
    """A hash of everything that loading a checkpoint gives."""
    loaded = load_checkpoint(path)
    return digest({field.name: getattr(loaded, field.name) for field in fields(loaded)})


def fill_the_disk(place: Path, whole: Path, limits: int) -> str:
    """Refuses every write beyond some size; nothing may be lost that was there, nor crash.

    The sizes are those of the files that a run leaves, one byte less than each, and others in
    between.
    """
    sizes = sorted({path.stat().st_size for path in whole.rglob("*") if path.is_file()})
    edges = {size - 1 for size in sizes} | set(sizes) | {0}
    edges |= {sizes[-1] * part // limits for part in range(limits)}
    codes: dict[int, int] = {}
    for number, limit in enumerate(sorted(edges)):
        directory = place / f"full-{number}"

        def limited(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        process = train(directory, epochs=1, preexec_fn=limited)
        _, errors = process.communicate()
        codes[process.returncode] = codes.get(process.returncode, 0) + 1
        if process.returncode not in (0, 2, 4) or "Traceback" in errors:
            raise AssertionError(f"{limit} bytes: exit code {process.returncode}: {errors}")
        for path in directory.glob("checkpoints/*.safetensors"):
            load_checkpoint(path)
        # With room again the run ends as if nothing had been, whatever there was. (Runs whose
        # weights could not be saved are their owner's to delete.)
        if not list(directory.glob("checkpoints/*.safetensors")):
            shutil.rmtree(directory, ignore_errors=True)
        finish(train(directory, epochs=1))
        last = load_checkpoint(directory / "checkpoints" / "last.safetensors").trainer_state()
        if digest(last) != digest(
            load_checkpoint(whole / "checkpoints" / "last.safetensors").trainer_state()
        ):
            raise AssertionError(f"{limit} bytes: the run ended otherwise")
    told = ", ".join(f"{count} with exit code {code}" for code, count in sorted(codes.items()))
    return f"{len(edges)} sizes of a full disk: {told}; all resumed to the same weights"


def main() -> None:
    """Runs everything, and says how it went."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=1, help="so many times as much of everything")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    n, source = arguments.n, random.Random(arguments.seed)  # noqa: S311 - no secret
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        finish(train(place / "one", epochs=1))
        last = place / "one" / "checkpoints" / "last.safetensors"
        start = time.monotonic()
        jobs: list[Callable[[], str]] = [
            lambda: flip_bits(place, last, 500 * n, source),
            lambda: cut_short(place, last, 100 * n),
            lambda: kill_while_saving(place, load_checkpoint(last), 50 * n, source),
            lambda: fill_the_disk(place, place / "one", limits=2 * n),
            lambda: kill_new_runs(place, place / "one", 9 * n, source),
            lambda: kill_while_training(place, 15 * n, source),
        ]
        for job in jobs:
            print(f"{job()} ({time.monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
