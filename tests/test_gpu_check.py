"""`make gpu-check`: what it does again, what it leaves out, and what it stops in time."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.conftest import REPOSITORY, load_script, plain_environment


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_script("gpu_check")
    monkeypatch.setattr(module, "GRACE", 10)
    return module


def make_job(script: ModuleType, tmp_path: Path, seconds: float = 60) -> Any:
    (tmp_path / "out").mkdir(exist_ok=True)
    end = time.monotonic() + seconds
    return script.Job(tmp_path / "out", tmp_path / "runs", end, tmp_path / "out" / "a.log")


def soon(seconds: float = 600) -> float:
    return time.monotonic() + seconds


def test_what_went_well_is_not_done_again(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []
    broken = {"second"}

    def stage(name: str) -> Any:
        def run(job: Any) -> dict[str, Any]:
            done.append(name)
            if name in broken:
                error = script.StageError("exit code 1")
                error.figures = {"epoch": 3}
                raise error
            return {"tests": f"{name} passed"}

        return script.Stage(name, f"the {name}", run, 5)

    todo = [stage("first"), stage("second"), stage("third")]
    assert not script.check(todo, tmp_path, tmp_path, soon())
    assert done == ["first", "second", "third"]  # one that fails does not keep others from it
    assert "exit code 1" in capsys.readouterr().out
    written = json.loads((tmp_path / "summary.json").read_text())
    assert [written[name]["ok"] for name in written] == [True, False, True]
    assert written["second"]["figures"] == {"epoch": 3}

    broken.clear()
    (tmp_path / "third.json").write_text('{"ok": tr')  # killed while it wrote
    assert script.check(todo, tmp_path, tmp_path, soon())
    assert done == ["first", "second", "third", "second", "third"]
    assert script.check(todo, tmp_path, tmp_path, soon())
    assert len(done) == 5
    assert "third passed" in capsys.readouterr().out


def test_what_there_is_too_little_time_for_is_not_begun(script: ModuleType, tmp_path: Path) -> None:
    begun: list[str] = []

    def stage(name: str, fewest: float) -> Any:
        def run(_job: Any) -> dict[str, Any]:
            begun.append(name)
            time.sleep(0.2)
            return {}

        return script.Stage(name, "", run, fewest)

    todo = [stage("a", 50), stage("b", 50), stage("c", 20)]
    assert not script.check(todo, tmp_path, tmp_path, soon(50.1))
    assert begun == ["a", "c"]
    assert not (tmp_path / "b.json").exists()


def test_a_stage_that_fails_in_any_way_does_not_keep_others_from_it(
    script: ModuleType, tmp_path: Path
) -> None:
    def broken(_job: Any) -> dict[str, Any]:
        raise ImportError("no module")

    todo = [script.Stage("a", "", broken, 5), script.Stage("b", "", lambda _: {}, 5)]
    assert not script.check(todo, tmp_path, tmp_path, soon())
    assert "ImportError" in json.loads((tmp_path / "a.json").read_text())["because"]
    assert json.loads((tmp_path / "b.json").read_text())["ok"]


SAVES = """
import signal, sys, time
def save(*_):
    print("saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("begun", flush=True)
time.sleep(60)
"""


def test_what_takes_too_long_is_told_to_save(script: ModuleType, tmp_path: Path) -> None:
    job = make_job(script, tmp_path, seconds=script.GRACE + 2)
    start = time.monotonic()
    with pytest.raises(script.StageError, match="the time was up"):
        script.command(job, "-c", SAVES)
    assert time.monotonic() - start < 8
    assert job.log.read_text() == "begun\nsaved\n"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("last", ["time.sleep(60)", "raise SystemExit(1)"])
def test_what_a_command_has_started_ends_with_it(
    last: str, script: ModuleType, tmp_path: Path
) -> None:
    """Else it would hold the device's memory."""
    starts = "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', "
    starts += f"'import time; time.sleep(60)']); print(child.pid, flush=True); {last}"
    job = make_job(script, tmp_path, seconds=script.GRACE + 2)
    with pytest.raises(script.StageError):
        script.command(job, "-c", starts)
    child = Path("/proc") / job.log.read_text().strip() / "stat"
    deadline = soon(10)
    while child.exists() and child.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_command_that_fails_is_a_stage_that_failed(script: ModuleType, tmp_path: Path) -> None:
    job = make_job(script, tmp_path)
    script.command(job, "-c", "import ptblm; print('found')")
    assert job.log.read_text() == "found\n"
    with pytest.raises(script.StageError, match="exit code 3"):
        script.command(job, "-c", "raise SystemExit(3)")


def test_a_whole_run_goes_on_and_leaves_only_figures(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "runs" / "gpu-large"
    directory.mkdir(parents=True)
    (directory / "last.safetensors").write_bytes(b"0" * 1000)
    commands: list[list[str]] = []

    def command(_job: Any, *arguments: object) -> None:
        commands.append([str(argument) for argument in arguments])
        with (directory / "metrics.jsonl").open("a") as file:
            file.write('{"kind": "step"}\n')
            file.write(json.dumps({"kind": "epoch", "epoch": len(commands)}) + "\n")
        if len(commands) < 2:
            raise script.StageError("the time was up")
        (directory / "result.json").write_text('{"test_perplexity": 78.4}')

    monkeypatch.setattr(script, "command", command)
    job = make_job(script, tmp_path)
    with pytest.raises(script.StageError) as caught:
        script.whole_run("large")(job)
    assert caught.value.figures == {"kind": "epoch", "epoch": 1}
    assert script.whole_run("large")(job) == {"test_perplexity": 78.4}
    assert commands[0] == commands[1]
    assert commands[0][-4:] == ["--run-dir", str(directory), "--resume", "auto"]
    left = {path.name for path in job.out.iterdir()}
    assert left == {"large-metrics.jsonl", "large-result.json"}


def test_the_pace_is_that_of_the_steps_after_the_first(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "PACE_STEPS", 6)
    monkeypatch.setattr(script, "PACE_KEYS", ["data.path=sample", "run.device=cpu"])
    found = script.pace("test", "usual")
    assert 100 < found["words_per_second"] < 1e7
    assert found["path"] == "fused"


def test_the_cost_is_that_of_words_a_second(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(_job: Any, *arguments: object) -> None:
        *_, config, kind, path = map(str, arguments)
        assert config == "large"
        words = {"usual": 1000, "deterministic": 900}[kind]
        Path(path).write_text(json.dumps({"path": "fused", "words_per_second": words}))

    monkeypatch.setattr(script, "command", command)
    found = script.deterministic("large")(make_job(script, tmp_path))
    assert found["cost"] == pytest.approx(0.1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_without_a_device_it_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/gpu_check.py", "--out", str(tmp_path / "out")]
    environment = plain_environment()
    told = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=100
    )
    assert told.returncode == 2
    assert told.stderr == "error: no CUDA device is available to torch\n"
    assert not (tmp_path / "out").exists()
    listed = subprocess.run(
        [*command, "--dry-run"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert listed.returncode == 0
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert names[:2] == ["environment", "tests"]
    assert names[2] == "bench-small-fp32"
    assert names[-3:] == ["deterministic-large", "large", "medium"]
