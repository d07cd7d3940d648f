"""`run.keep_at`: a checkpoint at each number of training tokens, also after stops."""

from pathlib import Path

import pytest
import torch

from ptblm.backend.matmul import use_matmul_backend
from ptblm.checkpoint.format import load_checkpoint
from ptblm.config.loading import load_config
from ptblm.errors import ConfigError, Interrupted
from ptblm.reporting.reporter import SilentReporter
from ptblm.run.directory import RunDirectory, short_count
from ptblm.run.train import train
from ptblm.run.verify import verify
from ptblm.training.records import Record, StepDone
from tests.run.helpers import resume, tiny, tiny_config

# Batches of 1,000 tokens and epochs of 39,000. The counts are within, at, and after an epoch.
KEEP = "run.keep_at=[1500, 39k, 40001, 1M]"
STEPS = {"1500": 2, "39k": 39, "40001": 41}
TWO_EPOCHS = ["training.epochs=2", "run.checkpoint_every=5 steps"]


class StopAt(SilentReporter):
    """Stops a run after a step, as a signal would."""

    def __init__(self, step: int) -> None:
        self._step = step

    def write(self, record: Record) -> None:
        if isinstance(record, StepDone) and record.step == self._step:
            raise Interrupted(15, hint="")


def kept(run: Path) -> dict[str, int]:
    """The step of each kept checkpoint, by its count."""
    files = (run / "checkpoints").glob("tokens-*.safetensors")
    return {path.stem.removeprefix("tokens-"): load_checkpoint(path).trained()[1] for path in files}


def test_first_step_that_reaches_each_count_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "ptblm")
    without, run = tmp_path / "without", tmp_path / "run"
    train(tiny_config(*TWO_EPOCHS), without)
    train(tiny_config(*TWO_EPOCHS, KEEP), run)
    assert kept(run) == STEPS
    assert caplog.messages == [
        "run.keep_at: the run ends after 78,000 training tokens, before 1,000,000"
    ]
    for path in (run / "checkpoints").glob("tokens-*"):
        verify(load_checkpoint(path), path)
    torch.testing.assert_close(
        *(load_checkpoint(RunDirectory(path).last).model for path in (without, run)), rtol=0, atol=0
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs without interruption."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with use_matmul_backend("default"):
        train(tiny_config(*TWO_EPOCHS, KEEP), run)
    return run


@pytest.mark.parametrize("stop", [1, 2, 38, 39, 40, 41])
def test_stopped_run_keeps_the_same_checkpoints(stop: int, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = tiny_config(*TWO_EPOCHS, KEEP, "run.checkpoint_every=1 steps")
    with pytest.raises(Interrupted):
        train(config, run, reporter=StopAt(stop))
    if not RunDirectory(run).all_checkpoints():  # stopped before its first checkpoint
        train(config, run, resume="auto")
    else:
        resume(run)
    assert kept(run) == STEPS
    for count in STEPS:
        name = f"tokens-{count}.safetensors"
        one, other = (load_checkpoint(path / "checkpoints" / name) for path in (whole, run))
        torch.testing.assert_close(one.model, other.model, rtol=0, atol=0)


def test_resumed_run_can_change_the_counts(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny_config("run.keep_at=[2k]"), run)
    resume(run, "training.epochs=2", "run.keep_at=[3k, 50k]")
    assert kept(run) == {"2k": 2, "50k": 50}


def test_rotation_never_deletes_kept_checkpoints(tmp_path: Path) -> None:
    run = tmp_path / "run"
    steps = ["run.keep_checkpoints=1", "run.checkpoint_every=1 steps"]
    train(tiny_config(*steps, "run.keep_at=[1k, 2k]"), run)
    assert kept(run) == {"1k": 1, "2k": 2}
    train(tiny_config(*steps), run, overwrite=True)  # they belong to the run, which is deleted
    assert kept(run) == {}


def test_counts_of_random_batches_are_exact(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny_config(*TWO_EPOCHS, "training.random_num_steps=true", "run.keep_at=[39999]"), run)
    state = load_checkpoint(RunDirectory(run).at_tokens(39999)).train_state
    targets = 50 * (40_001 // 50 - 1)  # of an epoch
    assert state["epoch"] * targets + state["tokens"] >= 39999
    before = state["epoch"] * targets + state["tokens"] - 39999
    assert before < 50 * 40  # one batch


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1"), (1500, "1500"), (500_000, "500k"), (2_000_000, "2M")]
)
def test_names_are_the_counts_of_the_config(number: int, text: str) -> None:
    assert short_count(number) == text
    assert load_config("small", [f"run.keep_at=[{text}]"]).run.keep_at == [number]


@pytest.mark.parametrize("value", ["1M", "[0]", "[1X]", "[-1]", "[1.5]", "[1.5M]", "[true]"])
def test_other_values_are_rejected(value: str) -> None:
    with pytest.raises(ConfigError, match="keep_at"):
        load_config("small", tiny(f"run.keep_at={value}"))


def test_key_in_another_section_is_located() -> None:
    with pytest.raises(ConfigError, match="belongs in 'run'"):
        load_config("small", ["training.keep_at=[1M]"])
