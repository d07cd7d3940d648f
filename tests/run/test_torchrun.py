"""Runs started by torchrun and by `--processes`: restarts, exit codes, two machines."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FAST, plain_environment
from tests.run.test_parallel_runs import assert_bit_equal

pytestmark = pytest.mark.slow

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
RUN = [word.replace("epochs=2", "epochs=40") for word in FAST]


def start(command: list[Any], directory: Path, **environment: str) -> "subprocess.Popen[str]":
    variables = {**plain_environment(), "OMP_NUM_THREADS": "1", **environment}
    words = [str(word) for word in command]
    return subprocess.Popen(
        words,
        cwd=directory,
        env=variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    output, _ = process.communicate(timeout=200)
    return process.returncode, output


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def workers(agent: int) -> list[int]:
    """The processes that an agent of torchrun started."""
    return [int(word) for word in Path(f"/proc/{agent}/task/{agent}/children").read_text().split()]


@pytest.fixture
def undisturbed(small_corpus: Path, tmp_path: Path) -> Path:
    command: list[Any] = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "-m", "ptblm", "train"]
    command += ["--data", small_corpus, "--run-dir", "undisturbed", *RUN]
    code, output = finish(start(command, tmp_path))
    assert code == 0, output
    return tmp_path / "undisturbed"


def test_killed_process_is_restarted_and_the_result_is_the_same(
    small_corpus: Path, tmp_path: Path, undisturbed: Path
) -> None:
    command: list[Any] = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "--max-restarts=3"]
    command += ["-m", "ptblm"]
    command += ["train", "--data", small_corpus, "--run-dir", "run", "--resume", "auto", *RUN]
    process = start(command, tmp_path)
    for victim, name in ((1, "last"), (0, "best")):
        wait_for(tmp_path / "run" / "checkpoints" / f"{name}.safetensors")
        os.kill(workers(process.pid)[victim], signal.SIGKILL)
    code, output = finish(process)
    assert code == 0, output
    assert_bit_equal(tmp_path / "run", undisturbed)


def test_processes_option_trains_and_returns_the_exit_code(
    small_corpus: Path, tmp_path: Path, undisturbed: Path
) -> None:
    command = [sys.executable, "-m", "ptblm", "train", "--processes", "2", "--run-dir", "run"]
    code, output = finish(start([*command, "--data", small_corpus, *RUN], tmp_path))
    assert code == 0, output
    assert_bit_equal(tmp_path / "run", undisturbed)
    code, output = finish(start([*command, "--data", "missing"], tmp_path))
    assert code == 2  # the run directory is not empty
    assert "Traceback" not in output
    code, output = finish(start([*command, "--overwrite", "--data", "missing"], tmp_path))
    assert code == 3
    assert "Traceback" not in output
    assert "exitcode" not in output


def test_stop_signal_to_processes_option_saves(small_corpus: Path, tmp_path: Path) -> None:
    forever = [word.replace("epochs=2", "epochs=100000") for word in FAST]
    command = [sys.executable, "-m", "ptblm", "train", "--processes", "2", "--run-dir", "run"]
    process = start([*command, "--data", small_corpus, *forever], tmp_path)
    wait_for(tmp_path / "run" / "checkpoints" / "best.safetensors")
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert code == 143
    assert "everything is saved" in output


def test_orphaned_processes_save_and_stop(small_corpus: Path, tmp_path: Path) -> None:
    """Torchrun does not end its processes if it is killed."""
    forever = [word.replace("epochs=2", "epochs=100000") for word in FAST]
    command: list[Any] = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "-m", "ptblm", "train"]
    command += ["--data", small_corpus, "--run-dir", "run", *forever]
    process = start(command, tmp_path)
    wait_for(tmp_path / "run" / "checkpoints" / "best.safetensors")
    process.kill()
    code, output = finish(process)  # waits for all processes that write to the pipe
    assert code == -9
    assert "everything is saved" in output


def run_ip(*words: str) -> bool:
    return subprocess.run(["ip", *words], check=False, capture_output=True).returncode == 0


@pytest.fixture
def machines() -> Iterator[list[tuple[str, str]]]:
    """Two network namespaces that are connected as two machines, each with its interface."""
    names = [f"ptblm-{os.getpid()}-{side}" for side in "ab"]
    try:
        if not all(run_ip("netns", "add", name) for name in names):
            pytest.skip("needs permission to create network namespaces")
    except FileNotFoundError:
        pytest.skip("needs the program ip")
    try:
        links = [f"pt{os.getpid() % 10**6}{side}" for side in "ab"]
        assert run_ip("link", "add", links[0], "type", "veth", "peer", "name", links[1])
        for number, (name, link) in enumerate(zip(names, links, strict=True), start=1):
            assert run_ip("link", "set", link, "netns", name)
            assert run_ip("-n", name, "addr", "add", f"10.213.7.{number}/24", "dev", link)
            assert run_ip("-n", name, "link", "set", link, "up")
            assert run_ip("-n", name, "link", "set", "lo", "up")
        yield list(zip(names, links, strict=True))
    finally:
        for name in names:
            run_ip("netns", "delete", name)


def agent(machine: str, number: int, small_corpus: Path) -> list[Any]:
    command = ["ip", "netns", "exec", machine, *TORCHRUN, "--nnodes=2", "--nproc-per-node=1"]
    # torchrun recognizes its own machine by name, but a namespace has no name.
    command += ["--rdzv-backend=c10d", f"--rdzv-conf=is_host={1 - number}", "--rdzv-id=7"]
    command += ["--max-restarts=3", "--rdzv-endpoint=10.213.7.1:29517"]
    command += [f"--local-addr=10.213.7.{number + 1}"]
    return [*command, "-m", "ptblm", "train", "--data", small_corpus, "--run-dir", "run", *RUN]


def test_two_machines_train_and_restart(
    machines: list[tuple[str, str]], small_corpus: Path, tmp_path: Path, undisturbed: Path
) -> None:
    processes = [
        start(
            [*agent(machine, number, small_corpus), "--resume", "auto"],
            tmp_path,
            TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1",
            GLOO_SOCKET_IFNAME=link,  # the name of the machine leads to another namespace
        )
        for number, (machine, link) in enumerate(machines)
    ]
    wait_for(tmp_path / "run" / "checkpoints" / "last.safetensors")
    victims = workers(processes[1].pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(victims[0], signal.SIGKILL)
    results = [finish(process) for process in processes]
    assert [code for code, _ in results] == [0, 0], results
    assert_bit_equal(tmp_path / "run", undisturbed)
