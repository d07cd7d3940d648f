"""`ptblm sweep show` and `ptblm sweep best`: table, findings, JSON, plot, journals of strangers."""

import json
import os
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptblm.config.loading import load_config
from tests.bounds import bounded
from tests.in_process import mutated, ptblm
from tests.run.sweep_files import write_sweep
from tests.test_bad_input import several_cases


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("sweeps") / "s")


def test_table_starts_with_the_best_trial(written: Path) -> None:
    code, errors, output = ptblm("sweep", "show", written)
    assert (code, errors) == (0, "")
    table, _, findings = output.partition("\n\n")
    rows = [line.split() for line in table.splitlines()]
    assert rows[0] == ["rank", "trial", "valid", "epochs", "state", "learning_rate", "cell"]
    assert rows[1] == ["1", "2", "11.20", "2", "finished", "0.98", "gru"]
    assert [row[1] for row in rows[1:]] == ["2", "4", "0", "3", "1", "5", "6", "7"]
    assert [row[4] for row in rows[6:]] == ["pruned", "diverged", "failed"]
    assert "trial 2 with other seeds (n = 2): valid 11.00 ± 1.41, test 11.50 ± 0.71\n" in findings
    assert "training.learning_rate of the best trial, 0.98, is at an edge of 0.1 to 1" in findings
    assert "trial 7 failed: no such corpus\n" in findings


def test_importances_are_shown_as_bars(written: Path) -> None:
    output = ptblm("sweep", "show", written)[2]
    bars = output.partition("importance for the valid perplexity (5 finished trials)\n")[2]
    rate, cell = (line.split() for line in bars.splitlines()[:2])
    assert (rate[0], rate[2]) == ("learning_rate", "#" * 30)
    assert cell[0] == "cell"
    assert int(rate[1][:-1]) + int(cell[1][:-1]) in (99, 100, 101)


def test_json_contains_everything(written: Path) -> None:
    document = json.loads(ptblm("sweep", "show", written, "--format", "json")[2])
    assert document["trials"][0] == {
        "trial": 2,
        "state": "finished",
        "valid_perplexity": 10 / 0.98 + 1,
        "epochs": 2,
        "values": {"training.learning_rate": 0.98, "model.cell": "gru"},
        "note": None,
    }
    assert document["repetitions"][0]["test_perplexity"]["mean"] == 11.5
    assert sum(document["importances"].values()) == pytest.approx(1)
    assert len(document["edges"]) == 1


@pytest.mark.parametrize(
    ("form", "line"),
    [("csv", "1,2,11.204081632653061,2,finished,0.98,gru"), ("md", "| 1 | 2 | 11.20 | 2 |")],
)
def test_other_formats(form: str, line: str, written: Path) -> None:
    assert line in ptblm("sweep", "show", written, "--format", form)[2]


def test_plot_has_a_panel_for_each_key(written: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    assert ptblm("sweep", "show", written, "--to", plot)[0] == 0
    svg = ElementTree.parse(plot).getroot()
    texts = {"".join(text.itertext()) for text in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert not any("$" in text for text in texts)  # mathematics is not parsed
    assert {
        "0.1",
        "0.2",
        "0.5",
        "learning_rate",
        "cell",
        "gru",
        "lstm",
        "finished",
        "pruned",
        "best",
    } <= texts
    assert ptblm("sweep", "show", written, "--to", plot)[0] == 2
    assert ptblm("sweep", "show", written, "--to", plot, "--overwrite")[0] == 0


def test_best_config_can_be_trained(written: Path, tmp_path: Path) -> None:
    code, errors, output = ptblm("sweep", "best", written)
    assert (code, errors) == (0, "")
    (tmp_path / "mine.yaml").write_text(output)
    config = load_config(str(tmp_path / "mine.yaml"))
    assert (config.training.learning_rate, config.model.cell.type) == (0.98, "gru")
    assert config.run.test


def test_nothing_is_written_by_show_and_best(written: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
    assert ptblm("sweep", "show", written)[0] == ptblm("sweep", "best", written)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in written.rglob("*")} == before


def test_sweep_can_be_moved(written: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(written, tmp_path / "renamed")
    for command in ("show", "best"):
        assert ptblm("sweep", command, moved)[::2] == ptblm("sweep", command, written)[::2]


def test_directory_without_a_sweep_is_one_message(tmp_path: Path) -> None:
    for command in ("show", "best"):
        code, errors, _ = ptblm("sweep", command, tmp_path)
        assert code == 4
        assert errors.startswith("error: no sweep in this directory: journal.jsonl is missing\n")


@settings(several_cases, max_examples=int(os.environ.get("N", "1")) * 25)
@given(data=st.data())
def test_journal_with_any_bytes(written: Path, tmp_path: Path, data: st.DataObject) -> None:
    copy = tmp_path / "s"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(written, copy)
    good = (written / "journal.jsonl").read_bytes()
    content = data.draw(mutated(good) | st.binary(max_size=200))
    (copy / "journal.jsonl").write_bytes(content)
    (tmp_path / "outside").mkdir(exist_ok=True)
    command = data.draw(st.sampled_from(["show", "best"]))
    bounded("sweep", command, copy, codes={2, 4}, surroundings=tmp_path / "outside")
    assert (copy / "journal.jsonl").read_bytes() == content
