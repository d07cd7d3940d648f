"""`ptblm plot`: the file it writes, what it rejects, runs in progress."""

import json
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.conftest import FAST
from tests.in_process import ptblm

pytestmark = pytest.mark.usefixtures("in_directory", "one_thread")


def test_plot_of_one_run_is_next_to_its_other_files(run_directory: Path) -> None:
    code, errors, output = ptblm("plot", run_directory, "--panels", "perplexity")
    assert (code, errors) == (0, "")
    assert output == f"written      {run_directory / 'plot.png'}\n"
    assert (run_directory / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_run_with_a_plot_can_be_overwritten(run_directory: Path) -> None:
    (run_directory / "plot.svg").touch()
    corpus = run_directory.parent / "text.txt"
    corpus.write_text("the cat sat on the mat\n" * 200)
    new = ["train", "--data", corpus, "--run-dir", run_directory, *FAST]
    code, errors, _ = ptblm(*new, "--overwrite")
    assert code == 0, errors
    assert not (run_directory / "plot.svg").exists()


def test_several_runs_are_in_one_plot(run_directory: Path) -> None:
    other = Path(shutil.copytree(run_directory, "b_$x$"))
    code, errors, output = ptblm("plot", run_directory, other, "-o", "both.SVG", "--x", "hours")
    assert (code, errors, output) == (0, "", "written      both.SVG\n")
    svg = ElementTree.parse("both.SVG").getroot()
    texts = ["".join(text.itertext()) for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    labels = {"run", "b_$x$", "perplexity", "learning rate", "gradient norm", "tokens/s"}
    assert labels | {"training time (hours)"} <= set(texts)
    assert ptblm("plot", run_directory, other, "--panels=speed")[2] == "written      plot.png\n"


def test_existing_file_is_kept_without_overwrite(run_directory: Path) -> None:
    Path("plot.svg").write_text("mine")
    command = ["plot", run_directory, "-o", "plot.svg", "--panels", "speed"]
    code, errors, _ = ptblm(*command)
    assert (code, Path("plot.svg").read_text()) == (2, "mine")
    assert "--overwrite" in errors
    assert ptblm(*command, "--overwrite")[0] == 0
    assert Path("plot.svg").read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "-o", "plot.gif"], "ends with .png, .svg, .pdf"),
        (["RUN", "-o", "missing/plot.png"], "--to: cannot be written"),
        (["RUN", "--panels", "sped"], "no panel 'sped', did you mean 'speed'?"),
        (["RUN", "--panels", "speed,speed"], "'speed' occurs twice"),
        (["RUN", "--panels", ""], "no panel ''"),
        (["RUN"] * 9, "9 runs are too many"),
    ],
)
def test_wrong_arguments_are_one_message(
    run_directory: Path, arguments: list[str], message: str
) -> None:
    words = [str(run_directory) if word == "RUN" else word for word in arguments]
    code, errors, _ = ptblm("plot", *words)
    assert (code, errors.count("error: ")) == (2, 1)
    assert message in errors


def test_run_without_records_is_left_out(run_directory: Path) -> None:
    empty = Path(shutil.copytree(run_directory, "empty"))
    for name in ("metrics.jsonl", "result.json"):
        (empty / name).unlink()
    code, errors, _ = ptblm("plot", empty)
    assert (code, "no step or epoch is recorded yet" in errors) == (4, True)
    code, errors, _ = ptblm("plot", empty, run_directory, "--panels", "speed")
    assert (code, errors.startswith("warning: "), "left out" in errors) == (0, True, True)


def test_steps_have_no_epoch_before_the_first_is_complete(run_directory: Path) -> None:
    metrics = run_directory / "metrics.jsonl"
    step = {"kind": "step", "epoch": 1, "step": 1, "learning_rate": 1, "nll": 5, "grad_norm": 1}
    metrics.write_text(json.dumps({**step, "perplexity": 9, "tokens_per_second": 9}) + "\n")
    code, errors, _ = ptblm("plot", run_directory, "--panels", "speed", "--x", "epochs")
    assert code == 0
    assert "warning: " in errors
    assert "no epoch is complete yet" in errors


def test_missing_matplotlib_is_one_message(
    run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, errors, _ = ptblm("plot", run_directory)
    assert code == 2
    assert errors == (
        "error: plots require the matplotlib package\n  hint: pip install 'ptblm[plot]'\n"
    )
