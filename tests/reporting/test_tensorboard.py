"""TensorBoard curves, read back with TensorBoard; a resumed run has no duplicate steps."""

import math
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from ptblm.checkpoint.format import load_checkpoint
from ptblm.config.loading import load_config
from ptblm.errors import UsageError
from ptblm.evaluation.score import Score
from ptblm.reporting.tensorboard import TensorBoard
from ptblm.run.train import train
from ptblm.training.records import EpochDone, RunDone, StepDone
from tests.run.helpers import last_checkpoint, tiny_config


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


def test_results_are_an_entry_of_the_hparams_page(tmp_path: Path) -> None:
    sizes = ["model.layer_sizes=[9, 7]", "model.hidden_size=9"]
    config = load_config("small", ["model.cell=gru", *sizes])
    first = EpochDone(1, 6, 0.5, 3.0, 4.0, 1.0, 20.0, best=True)
    curves = TensorBoard(tmp_path, 1, 1, config, history=[first])  # resumed
    curves.write(EpochDone(2, 12, 0.5, 3.0, 5.0, 1.0, 20.0, best=False))
    curves.write(RunDone(12, Score(10 * math.log(6), 10)))
    curves.close()
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    content = reader.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["model.cell.type"].string_value == "gru"
    assert start.hparams["model.layer_sizes"].string_value == "[9, 7]"
    assert start.hparams["training.epochs"].number_value == 13
    content = reader.SummaryMetadata("_hparams_/experiment").plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    names = {info.name.tag for info in experiment.metric_infos}
    results = {"valid": 5.0, "best_valid": 4.0, "test": 6.0}
    assert names == {f"result/{name}_perplexity" for name in results}
    for name, value in results.items():
        ((step, found),) = points(tmp_path, f"result/{name}_perplexity")
        assert step == 12
        assert found == pytest.approx(value)
    assert len(list(tmp_path.iterdir())) == 1  # no other run


def test_histograms_of_weights_and_gradients_on_request(tmp_path: Path) -> None:
    options = ["run.tensorboard=true", "run.histograms=true", "training.epochs=2"]
    train(tiny_config(*options), tmp_path / "run")
    reader = EventAccumulator(str(tmp_path / "run" / "tensorboard"), {"histograms": 0})
    reader.Reload()
    tags = reader.Tags()["histograms"]
    assert {"weights/embedding.weight", "gradients/head.weight"} <= set(tags)
    events = reader.Histograms("weights/embedding.weight")
    assert [event.step for event in events] == [39, 78]
    weight = load_checkpoint(last_checkpoint(tmp_path / "run")).model["embedding.weight"]
    found = events[-1].histogram_value
    assert (found.min, found.max) == pytest.approx((weight.min().item(), weight.max().item()))
    assert found.num == weight.numel()


def test_run_without_histograms_has_none(tmp_path: Path) -> None:
    train(tiny_config("run.tensorboard=true"), tmp_path / "run")
    reader = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    reader.Reload()
    assert reader.Tags()["histograms"] == []
    assert "result/test_perplexity" in reader.Tags()["scalars"]
