"""On two or more CUDA devices: captured steps of several processes, NCCL, resume."""

from pathlib import Path

import pytest
import torch

from tests.conftest import Ptblm
from tests.process_group import run_commands
from tests.run.test_parallel_runs import assert_bit_equal, metrics

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
]

RUN = ["train", "--data", "sample", "--device", "cuda", "--set", "model.hidden_size=64"]
RUN += ["--set", "training.epochs=2", "--deterministic"]


def assert_close(found: Path, wanted: Path) -> None:
    for one, other in zip(metrics(found), metrics(wanted), strict=True):
        for name, value in other.items():
            is_number = isinstance(value, float)
            assert one[name] == (pytest.approx(value, rel=1e-4) if is_number else value), name


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--no-fused"],
        ["--set", "training.optimizer=adam", "--set", "training.learning_rate=1e-3"],
    ],
    ids=["captured", "eager", "gathered embedding"],
)
def test_two_devices_train_as_one(ptblm: Ptblm, tmp_path: Path, options: list[str]) -> None:
    assert ptblm(*RUN, *options, "--run-dir", "one").returncode == 0
    main, other = run_commands([[*RUN, *options, "--run-dir", "two"]] * 2, tmp_path)
    assert (main.returncode, other.returncode) == (0, 0), main.stderr + other.stderr
    assert ("CUDA graph" in main.stderr) == ("--no-fused" not in options)
    assert "cuda:0" in main.stderr
    assert_close(tmp_path / "two", tmp_path / "one")


def test_run_of_two_devices_repeats_bit_for_bit(tmp_path: Path) -> None:
    for name in ("first", "second"):
        main, _ = run_commands([[*RUN, "--run-dir", name]] * 2, tmp_path)
        assert main.returncode == 0, main.stderr
    assert_bit_equal(tmp_path / "first", tmp_path / "second")


def test_named_device_is_an_error_with_several_processes(tmp_path: Path) -> None:
    words = [word.replace("cuda", "cuda:1") for word in RUN]
    main, _ = run_commands([words] * 2, tmp_path)
    assert main.returncode == 2
    assert "several processes cannot use the same device" in main.stderr
