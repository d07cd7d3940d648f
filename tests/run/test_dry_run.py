"""What a dry run tells of a whole one."""

from pathlib import Path

import pytest

from ptblm.config.loading import load_config
from ptblm.run.dry_run import dry_run


# Twice, three or four times 4 bytes for each of 1,289,610 parameters.
@pytest.mark.parametrize(
    ("optimizer", "megabytes"), [("sgd", 10), ("momentum", 15), ("adam", 21), ("rmsprop", 15)]
)
def test_memory_counts_what_the_optimizer_keeps(
    optimizer: str, megabytes: int, small_corpus: Path
) -> None:
    overrides = [f"data.path={small_corpus}", "model.hidden_size=400", "model.num_layers=1"]
    overrides += ["training.batch_size=2", f"training.optimizer={optimizer}"]
    told = dry_run(load_config("small", overrides), None, overwrite=False)
    assert "parameters       1,289,610" in told
    assert told[-1].endswith(f" of it {megabytes} MB for weights, gradients and optimizer")
