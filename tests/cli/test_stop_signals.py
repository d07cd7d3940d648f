"""Stop signals at random instants, from the start of the interpreter to the last of a command."""

import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import plain_environment
from tests.new_process import default_signals
from tests.run.helpers import options

STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
needs_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
SECONDS = 2.0  # time in which the signals are sent
TRAIN = ["train", *options(["data.path=sample", "model.hidden_size=8", "training.epochs=1000"])]


def has_handlers(process: int) -> bool:
    """Whether ptblm in a process has installed its handlers, or ignores signals at its end."""
    status = Path(f"/proc/{process}/status").read_text()
    masks = re.findall(r"^Sig(?:Cgt|Ign):\s*(\w+)$", status, re.MULTILINE)
    return any(int(mask, 16) >> (signal.SIGHUP - 1) & 1 for mask in masks)


def stop(
    arguments: list[str], number: signal.Signals, delay: float, directory: Path
) -> tuple[int, str, bool]:
    """Runs a command and sends a signal after `delay` seconds.

    Returns:
        The exit code, stderr, and whether ptblm had installed its handlers. Before that, while the
        interpreter starts, a signal has Python's default effect.
    """
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
    started = has_handlers(process.pid)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors, started


def check_stops(name: str, arguments: list[str], count: int, directory: Path) -> Counter[str]:
    """Sends a signal to each of `count` processes; returns how many ended in which way."""
    chooser = random.Random(name)
    ends: Counter[str] = Counter()
    for _ in range(count):
        number, delay = chooser.choice(STOPS), chooser.uniform(0, SECONDS)
        code, errors, started = stop(arguments, number, delay, directory)
        message = f"{name}, {number.name} after {delay:.3f} s: exit code {code}\n{errors}"
        if not started and code in (-number, 1):
            ends[f"{name}: stopped Python's start"] += 1
            continue
        ends[f"{name}: {'finished' if code == 0 else '128 + n'}"] += 1
        assert code == 128 + number or (code == 0 and name != "train"), message
        assert "Traceback" not in errors, message
        assert "Exception ignored" not in errors, message
    return ends


def check_commands(count: int, finished: Path, directory: Path) -> Counter[str]:
    """Sends `count` signals to each of six commands, which run at the same time.

    A run that was stopped can always be started again in its directory.
    """
    commands = {
        "train": [*TRAIN, "--run-dir", "run", "--resume", "auto"],
        "eval": ["eval", str(finished)],
        "score": ["score", str(finished), str(finished / "metrics.jsonl")],
        "generate": ["generate", str(finished), "--samples=9", "--seed=1"],
        "--help": ["--help"],
        "checkpoint show": ["checkpoint", "show", str(finished)],
    }
    with ThreadPoolExecutor(len(commands)) as pool:
        checks = [
            pool.submit(check_stops, name, arguments, count, directory)
            for name, arguments in commands.items()
        ]
        return sum((check.result() for check in checks), Counter())


@needs_linux
def test_stop_at_any_time(finished_run: Path, tmp_path: Path) -> None:
    check_commands(3, finished_run, tmp_path)


@needs_linux
@pytest.mark.slow
def test_stop_at_any_time_many_times(finished_run: Path, tmp_path: Path) -> None:
    print(check_commands(75, finished_run, tmp_path))


def run_script(script: str, *arguments: str) -> tuple[int, str]:
    """Runs Python code, in which `stop()` sends SIGTERM; returns exit code and both streams."""
    code = f"import os, signal, sys\nstop = lambda: os.kill(os.getpid(), signal.SIGTERM)\n{script}"
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=default_signals,
    )
    return result.returncode, result.stdout


def test_handlers_are_installed_before_slow_imports() -> None:
    heavy = "{'typer', 'pydantic', 'yaml', 'torch', 'logging', 'pathlib'} & set(sys.modules)"
    assert run_script(f"import ptblm.cli\nprint({heavy})") == (0, "set()\n")


def test_signal_in_an_import_ends_the_process() -> None:
    """Even if the import catches everything."""
    script = """
class Finder:
    def find_spec(self, name, *_):
        if name == "typer":
            try: stop()
            except BaseException: print("caught")
sys.meta_path.insert(0, Finder())
from ptblm.cli import main
main()
"""
    assert run_script(script, "--version") == (143, "")


HELD = """
from ptblm.cli import main
from ptblm.cli import commands
from ptblm.run.signals import StopSignal, clean_up_on_stop
def held():
    clean_up_on_stop()
    {}
commands.app.registered_commands[0].callback = held
main()
"""


@pytest.mark.parametrize(
    ("body", "code", "output"),
    [
        # Context managers clean up.
        ("try: stop()\n    finally: print('cleaned up')", 143, "cleaned up\n"),
        # Training does not start after a SystemExit that was swallowed.
        (
            "try: stop()\n    except BaseException: pass\n"
            "    with StopSignal(print): print('training')",
            143,
            "",
        ),
        # A command that swallows it still ends with the exit code of the signal.
        ("try: stop()\n    except BaseException: print('swallowed')", 143, "swallowed\n"),
        # So does one that is interrupted in a destructor.
        ("type('A', (), {'__del__': lambda self: stop()})()\n    print('done')", 143, "done\n"),
        # A second signal does not wait.
        ("try: stop()\n    finally: stop(); print('waited')", -15, ""),
        # Two signals that arrive before the handler of the first one runs count as one.
        (
            "with StopSignal(lambda: None) as stopped:\n"
            "        signal.pthread_sigmask(signal.SIG_BLOCK, {15, 2})\n"
            "        os.kill(os.getpid(), 15); os.kill(os.getpid(), 2)\n"
            "        signal.pthread_sigmask(signal.SIG_UNBLOCK, {15, 2})\n"
            "    print('saved')",
            0,
            "saved\n",
        ),
        # A signal to save a checkpoint is harmless at any time.
        ("os.kill(os.getpid(), signal.SIGUSR1); os.kill(os.getpid(), signal.SIGUSR2)", 0, ""),
    ],
)
def test_signal_while_something_is_held(body: str, code: int, output: str) -> None:
    assert run_script(HELD.format(body), "train") == (code, output)


def test_signal_after_the_end_changes_nothing() -> None:
    for number in (*STOPS, signal.SIGUSR1):
        script = f"import atexit\natexit.register(os.kill, os.getpid(), {int(number)})"
        end = f"{script}\nfrom ptblm.cli import main\nmain()"
        assert run_script(end, "--version") == (0, "ptblm 0.1.0\n")


def test_ignored_signals_stay_ignored() -> None:
    ignored = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    script = HELD.format("stop(); print('done')")
    assert run_script(ignored + script, "train") == (0, "done\n")


def test_nothing_is_installed_outside_the_main_thread() -> None:
    script = """
import threading
from ptblm.cli import main
before = [signal.getsignal(number) for number in signal.valid_signals()]
threading.Thread(target=main).start()
assert before == [signal.getsignal(number) for number in signal.valid_signals()]
"""
    assert run_script(script, "--version") == (0, "ptblm 0.1.0\n")
