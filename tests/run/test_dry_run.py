"""The estimates of a dry run."""

from pathlib import Path

import pytest

from ptblm.cli.formats import dry_run_lines
from ptblm.config.loading import load_config
from ptblm.run.dry_run import dry_run


# Two, three or four times 4 bytes for each of 1,289,610 parameters.
@pytest.mark.parametrize(
    ("optimizer", "megabytes"), [("sgd", 10), ("momentum", 15), ("adam", 21), ("rmsprop", 15)]
)
def test_memory_includes_optimizer_state(
    optimizer: str, megabytes: int, small_corpus: Path
) -> None:
    overrides = [f"data.path={small_corpus}", "model.hidden_size=400", "model.num_layers=1"]
    overrides += ["training.batch_size=2", f"training.optimizer={optimizer}"]
    result = dry_run(load_config("small", overrides))
    assert result.parameters == 1_289_610
    assert f"{result.held_bytes / 1e6:.0f}" == str(megabytes)
    expected = f" of which {megabytes} MB are weights, gradients and optimizer state"
    assert dry_run_lines(result)[-1].endswith(expected)
