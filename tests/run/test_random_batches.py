"""Runs with rotated streams, random resets, and random numbers of time steps."""

import copy
import logging
from pathlib import Path

import pytest
import torch

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.cli.formats import dry_run_lines
from ptblm.run import setup
from ptblm.run.dry_run import dry_run
from ptblm.run.train import train
from ptblm.training.cuda_graph import capture_on_cuda
from tests.in_process import ptblm
from tests.run.helpers import assert_same_end, copy_run, resume, tiny_config

RANDOM_STEPS = "training.random_num_steps=true"
RANDOM = ["training.streams=rotated", "training.drop_state=0.1", RANDOM_STEPS]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs with every option, which keeps the checkpoint of every step."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    recipe = ["model.dropout=0.3", "model.initial_state=learned", "training.epochs=2"]
    recipe += ["training.schedule=linear", "training.warmup_steps=30"]
    kept = ["run.checkpoint_every=1 steps", "run.keep_checkpoints=1000", "run.log_every=7"]
    train(tiny_config(*RANDOM, *recipe, *kept), directory)
    return directory


def checkpoint_of(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:09}.safetensors"


@pytest.mark.parametrize("step", [1, 11, 50])
def test_run_resumes_bit_exactly_in_the_middle_of_an_epoch(
    step: int, whole: Path, tmp_path: Path
) -> None:
    directory = copy_run(whole, tmp_path)
    kept = checkpoint_of(directory, step)
    assert load_checkpoint(kept).train_state["batch"] > 0
    kept.replace(directory / "checkpoints" / "last.safetensors")
    for path in (directory / "checkpoints").iterdir():
        if path.name != "last.safetensors":
            path.unlink()
    resume(directory)
    assert_same_end(directory, whole)


@pytest.mark.parametrize("tokens", [0, 10, 201])
def test_impossible_number_of_tokens_is_damage(tokens: int, whole: Path, tmp_path: Path) -> None:
    """A batch of 50 streams has at least 50 targets."""
    path = checkpoint_of(whole, 3)
    code, errors, output = ptblm("checkpoint", "verify", path)
    assert (code, errors) == (0, "")
    checkpoint = copy.deepcopy(load_checkpoint(path))
    checkpoint.train_state["tokens"] = tokens
    damaged = tmp_path / "last.safetensors"
    save_checkpoint(damaged, checkpoint)
    code, _, output = ptblm("checkpoint", "verify", damaged)
    assert code == 4
    assert "not a state that a run on this text can be in" in output


def test_dry_run_shows_the_mean_number_of_tokens() -> None:
    """Streams have 799 targets; the fixed batches leave out 19 of them."""
    fixed, random = dry_run(tiny_config()), dry_run(tiny_config(RANDOM_STEPS))
    assert (fixed.steps_per_epoch, fixed.tokens_per_step) == (39, 1000)
    targets = random.steps_per_epoch * random.tokens_per_step
    assert targets == pytest.approx(50 * 799)
    assert "steps per epoch  39 of 1,000 tokens" in dry_run_lines(fixed)
    (line,) = [line for line in dry_run_lines(random) if line.startswith("steps per epoch")]
    steps = random.steps_per_epoch
    assert line == f"steps per epoch  {steps} of {targets / steps:,.0f} tokens on average"


def test_random_lengths_are_not_captured_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    cuda = torch.device("cuda")
    with caplog.at_level(logging.WARNING, "ptblm"):
        assert setup._capture(tiny_config(RANDOM_STEPS), torch.device("cpu")) is None
        assert setup._capture(tiny_config(*RANDOM[:2]), cuda) is capture_on_cuda
        assert not caplog.messages
        assert setup._capture(tiny_config(RANDOM_STEPS), cuda) is None
    (message,) = caplog.messages
    assert message.startswith("training.random_num_steps runs steps without a CUDA graph")


def test_adaptive_softmax_is_not_captured(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ptblm"):
        assert setup._capture(tiny_config("model.head=adaptive"), torch.device("cuda")) is None
    assert caplog.messages[0].startswith("model.head adaptive runs steps without a CUDA graph")
