"""Labels of runs: what differs between their configs, or their names."""

from pathlib import Path

import pytest

from ptblm.config.loading import load_config
from ptblm.reporting.history import RunHistory
from ptblm.reporting.run_labels import run_labels


def run(path: str, *overrides: str) -> RunHistory:
    return RunHistory(Path(path), load_config("test", overrides), [], [], {}, {}, "unfinished")


@pytest.mark.parametrize(
    ("overrides", "labels"),
    [
        (["training.seed=1", "training.seed=2"], ["seed=1", "seed=2"]),
        (["model.cell=gru", "model.cell=lstm"], ["cell=gru", "cell=lstm"]),
        (["data.vocabulary.size=9", "model.num_layers=2"], None),  # filled in below
        (["run.log_every=5", "run.log_every=7"], ["a", "b"]),  # does not change the model
        (["training.seed=0", "training.seed=0"], ["a", "b"]),
    ],
)
def test_labels_are_keys_that_differ_or_names(
    overrides: list[str], labels: list[str] | None
) -> None:
    found = run_labels([run("/x/a", overrides[0]), run("/x/b", overrides[1])])
    default = load_config("test").model.num_layers
    assert found == (labels or [f"size=9, num_layers={default}", "size=null, num_layers=2"])


def test_names_replace_keys_that_are_equal_for_two_runs() -> None:
    adam = ["training.optimizer={type: adam, beta1: 0.8}", "training.optimizer=adam"]
    runs = [run("/x/a"), *(run(f"/x/{name}", text) for name, text in zip("bc", adam, strict=True))]
    assert run_labels(runs) == ["a", "b", "c"]


def test_equal_names_get_their_directory_or_a_number() -> None:
    assert run_labels([run("/x/a"), run("/y/a")]) == ["x/a", "y/a"]
    assert run_labels([run("/x/a"), run("/x/a")]) == ["1: a", "2: a"]
    assert run_labels([run("/x/a")]) == ["a"]


def test_labels_are_short_and_printable() -> None:
    (label,) = run_labels([run(f"/x/{'a' * 100}\x1b[2J\u202e{'b' * 30}")])
    assert len(label) == 40
    assert label.isprintable()
    assert label.startswith("aaa")
    assert label.endswith("bbb")
