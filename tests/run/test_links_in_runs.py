"""A run directory from a stranger cannot make ptblm write to another place."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ptblm.errors import UsageError
from ptblm.run.train import train
from tests.in_process import ptblm
from tests.run.helpers import contents, resume, tiny_config

WRITTEN = ["config.yaml", "environment.json", "metrics.jsonl", "result.json", "diverged.json"]
WRITTEN += ["lock", "checkpoints/last.safetensors", "checkpoints/best.safetensors"]


def snapshot(directory: Path) -> dict[str, bytes]:
    directory.mkdir(exist_ok=True)
    (directory / "precious").write_text("years of work\n")
    (directory / "inner").mkdir(exist_ok=True)
    return contents(directory)


@pytest.mark.parametrize("make_link", [os.symlink, os.link], ids=["symbolic", "hard"])
@pytest.mark.parametrize("name", WRITTEN)
def test_linked_file_is_replaced_or_rejected(
    name: str, make_link: Callable[[Path, Path], None], run: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    before = snapshot(outside)
    (run / name).unlink(missing_ok=True)
    make_link(outside / "precious", run / name)
    code, errors, _ = ptblm("train", "--resume", run, "--set", "training.epochs=2")
    assert code in (0, 2, 4), errors
    assert "Traceback" not in errors
    assert contents(outside) == before


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard"])
@pytest.mark.parametrize("inside", [False, True])
def test_linked_directory_is_rejected(name: str, inside: bool, run: Path, tmp_path: Path) -> None:
    outside = run / "real" if inside else tmp_path / "outside"
    if (run / name).exists():
        (run / name).rename(outside)
    outside.mkdir(exist_ok=True)
    (run / name).symlink_to(outside)
    before = contents(outside)
    with pytest.raises(UsageError, match="does not write through a symbolic link") as caught:
        resume(run, "training.epochs=2")
    assert caught.value.where == str(run / name)
    assert contents(outside) == before


def test_link_with_the_name_of_a_temporary_file_is_not_followed(run: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path / "outside")
    for name in ("checkpoints/last.safetensors.part", "checkpoints/last.safetensors.0a1b2c3d.part"):
        (run / name).symlink_to(tmp_path / "outside" / "precious")
    resume(run, "training.epochs=2")
    assert contents(tmp_path / "outside") == before


@pytest.mark.parametrize("content", ["checkpoints/precious", "tensorboard/inner", "a", "lock/a"])
def test_overwrite_deletes_only_files_of_a_run(content: str, run: Path) -> None:
    path = run / content
    if path.parent.is_file():
        path.parent.unlink()
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if content.endswith("inner") else path.write_text("precious")
    before = contents(run)
    with pytest.raises(UsageError, match=r"does not delete it|link or not a regular file"):
        train(tiny_config(), run, overwrite=True)
    assert contents(run) == before


@pytest.mark.parametrize("directory", ["/", "/usr", "/proc", "~"])
def test_overwrite_of_a_large_directory_is_rejected_at_once(directory: str) -> None:
    start = time.monotonic()
    with pytest.raises(UsageError, match="so --overwrite does not delete it"):
        train(tiny_config(), Path(directory).expanduser(), overwrite=True)
    assert time.monotonic() - start < 2
