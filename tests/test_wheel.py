"""The wheel, installed in a new virtual environment and used in an empty directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.slow
def test_installed_wheel_trains_and_evaluates(tmp_path: Path) -> None:
    def run(*command: object, cwd: Path = REPOSITORY) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        result = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1200,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", REPOSITORY)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    constraints = REPOSITORY / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", constraints, wheel)

    empty = tmp_path / "empty"
    empty.mkdir()
    ptblm = tmp_path / "venv" / "bin" / "ptblm"
    epochs = ["--set", "training.epochs=2"]
    trained = run(ptblm, "train", "--config", "small", "--data", "sample", *epochs, cwd=empty)
    assert "test perplexity" in trained
    assert "(entropy bound 10.31)" in trained
    assert "(entropy bound 10.31)" in run(
        python, "-m", "ptblm", "eval", "runs/small-sample", cwd=empty
    )
    assert "hidden_size: 650" in run(ptblm, "config", "show", "medium", cwd=empty)
    assert [path.name for path in empty.iterdir()] == ["runs"]
