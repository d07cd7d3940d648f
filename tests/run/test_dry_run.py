"""The estimates of a dry run."""

from pathlib import Path

import pytest

from ptblm.cli.formats import dry_run_lines
from ptblm.config.loading import load_config
from ptblm.run.dry_run import dry_run


# Two to six times 4 bytes for each of 1,289,610 parameters.
@pytest.mark.parametrize(
    ("optimizer", "average", "megabytes"),
    [
        ("sgd", "none", 10),
        ("momentum", "none", 15),
        ("adam", "none", 21),
        ("rmsprop", "none", 15),
        ("sgd", "nt", 15),
        ("adam", "two_tailed", 31),
    ],
)
def test_memory_includes_optimizer_state_and_averages(
    optimizer: str, average: str, megabytes: int, small_corpus: Path
) -> None:
    overrides = [f"data.path={small_corpus}", "model.hidden_size=400", "model.num_layers=1"]
    overrides += ["training.batch_size=2", f"training.optimizer={optimizer}"]
    overrides += [f"training.average={average}"]
    result = dry_run(load_config("small", overrides))
    assert result.parameters == 1_289_610
    assert f"{result.held_bytes / 1e6:.0f}" == str(megabytes)
    expected = f" of which {megabytes} MB are weights, gradients and optimizer state"
    assert dry_run_lines(result)[-1].endswith(expected)


# The training text has 680 tokens, and the validation text has 136.
@pytest.mark.parametrize(
    ("batch_size", "num_steps", "notes"),
    [
        (2, 3, []),
        (5, 45, ["validation uses 3 streams instead of 5: the text is short"]),
        (
            4,
            128,
            [
                "167 training tokens (24.6%) are in no batch; "
                "training.num_steps=84 leaves out 1.0%",
                "validation uses 1 stream instead of 4: the text is short",
            ],
        ),
    ],
)
def test_short_texts_are_noted(
    batch_size: int, num_steps: int, notes: list[str], small_corpus: Path
) -> None:
    overrides = [f"data.path={small_corpus}", "model.hidden_size=4", "training.epochs=1"]
    overrides += [f"training.batch_size={batch_size}", f"training.num_steps={num_steps}"]
    result = dry_run(load_config("small", overrides))
    assert result.notes == notes
    shown = [line for line in dry_run_lines(result) if line.startswith("note ")]
    assert shown == [f"note             {note}" for note in notes]


def test_suggested_change_leaves_out_the_noted_share(small_corpus: Path) -> None:
    overrides = [f"data.path={small_corpus}", "model.hidden_size=4", "training.batch_size=9"]
    before = dry_run(load_config("small", overrides)).notes[0]
    assert "(20.5%) are in no batch; training.num_steps=18 leaves out 4.6%" in before
    after = dry_run(load_config("small", [*overrides, "training.num_steps=18"])).notes[0]
    assert "(4.6%) are in no batch; a much smaller training.batch_size" in after
