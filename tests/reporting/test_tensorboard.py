"""TensorBoard curves, read back with TensorBoard; a resumed run has no duplicate steps."""

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ptblm.errors import UsageError
from ptblm.reporting.tensorboard import TensorBoard
from ptblm.training.records import EpochDone, StepDone


def step(number: int, nll: float) -> StepDone:
    return StepDone(
        epoch=1,
        batch=number,
        batches=10,
        step=number,
        learning_rate=0.5,
        nll=nll,
        tokens=10,
        grad_norm=2.0,
        epoch_nll=nll,
        epoch_tokens=10,
        epoch_seconds=0.5,
    )


def points(directory: Path, tag: str) -> list[tuple[int, float]]:
    reader = EventAccumulator(str(directory))
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def test_curves_have_expected_tags_and_values(tmp_path: Path) -> None:
    curves = TensorBoard(tmp_path, purge_step=1, log_every=2)
    for number in range(1, 7):
        curves.write(step(number, nll=0.0))
    curves.write(EpochDone(1, 6, 0.5, 3.0, 4.0, 1.0, 20.0, best=True))
    curves.close()
    assert points(tmp_path, "valid/perplexity") == [(6, 4.0)]
    assert points(tmp_path, "train/perplexity") == [(2, 1.0), (4, 1.0), (6, 1.0)]
    assert points(tmp_path, "optim/learning_rate")[0] == (2, 0.5)
    assert points(tmp_path, "optim/grad_norm")[0] == (2, 2.0)
    assert points(tmp_path, "speed/tokens_per_second")[0] == (2, 20.0)


def test_resumed_run_has_no_duplicate_steps(tmp_path: Path) -> None:
    before = TensorBoard(tmp_path, purge_step=1, log_every=1)
    for number in range(1, 6):
        before.write(step(number, nll=0.0))
    before.close()
    after = TensorBoard(tmp_path, purge_step=4, log_every=1)  # the checkpoint is of step 3
    for number in range(4, 8):
        after.write(step(number, nll=0.0))
    after.close()
    assert [number for number, _ in points(tmp_path, "train/perplexity")] == list(range(1, 8))


def test_missing_package_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="requires the tensorboard package"):
        TensorBoard(tmp_path, purge_step=1, log_every=1)
