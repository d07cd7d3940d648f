"""The HTML report: content, escaping, contrast, and behavior in a real browser."""

import itertools
import json
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.errors import UsageError
from ptblm.evaluation.analysis import (
    CalibrationBin,
    Candidate,
    GateMap,
    Group,
    HardToken,
    ModelAnalysis,
    ScoredToken,
)
from ptblm.json_files import read_json
from ptblm.reporting.history import RunHistory, StepMetrics, read_run
from ptblm.reporting.report.charts import Axis, Series, heat_map, line_chart, short_number, ticks
from ptblm.reporting.report.page import AnalyzedModel, nearest_shipped, report_page
from ptblm.run.report import write_report
from tests.conftest import REPOSITORY, Ptblm

pytest.importorskip("jinja2")

EVIL = '<img src=x onerror="alert(1)">'
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Collects the elements, and checks that they are nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}


def analysis(word: str = "gull") -> ModelAnalysis:
    """A small analysis whose texts are `word`."""
    token = ScoredToken(word, 7.5, 3, True, [Candidate(word, 0.5), Candidate("the", 0.25)])
    return ModelAnalysis(
        text=f"valid split of {word}",
        tokens=10,
        perplexity=9.5,
        passage=[[token, token], [token]],
        hardest=[HardToken(word, token, 3)],
        by_frequency=[Group("1 to 9", 4, 100.0)],
        by_position=[Group("1", 4, 100.0)],
        calibration=[CalibrationBin(5, 0.1, 0.2), CalibrationBin(5, 0.5, 0.4)],
        gate_tokens=[word, "the"],
        gates=[GateMap(1, "forget", [3, 4], [[0.1, 0.9], [0.5, 0.2]])],
        samples=[word],
    )


@pytest.fixture(scope="module")
def run(finished_run: Path) -> RunHistory:
    steps = [StepMetrics(1, n, 0.5, 2.0, float(n % 7), 9.0, 100.0) for n in range(1, 2000)]
    return replace(read_run(finished_run), steps=steps)


def test_missing_jinja_is_found_before_the_analysis(
    run: RunHistory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)  # importing it fails
    monkeypatch.setattr("ptblm.run.report.load_trusted_model", None)
    with pytest.raises(UsageError, match="jinja2"):
        write_report([run], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def page(run: RunHistory) -> str:
    return report_page([run], [AnalyzedModel(analysis(), corpus_sha256={"train": "ab12"})])


def test_page_is_complete_and_small(page: str, run: RunHistory) -> None:
    parsed = Page(page)
    assert page.startswith("<!DOCTYPE html>")
    assert len(page.encode()) < 1_000_000
    headings = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    assert {"main", "nav", "section", "figure", "svg", "table", "blockquote"} <= parsed.tags()
    assert ("html", {"lang": "en"}) in parsed.elements
    last = run.epochs[-1]
    for text in (f"{last.valid_perplexity:.2f}", "7.5 bits, rank 3, not in the vocabulary", "ab12"):
        assert text in parsed.text


def test_page_loads_and_runs_nothing(page: str) -> None:
    parsed = Page(page)
    for tag, attributes in parsed.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "action"):
                assert (value or "").startswith("#"), (tag, name)
    scripts = [attributes for tag, attributes in parsed.elements if tag == "script"]
    assert [each["type"] for each in scripts] == ["application/json"]
    (policy,) = [
        attributes["content"] or ""
        for tag, attributes in parsed.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert not any("style" in attributes for _, attributes in parsed.elements)


def test_tables_contain_the_recorded_values(page: str, run: RunHistory) -> None:
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    (found,) = json.loads(data[1])
    assert found["epochs"] == [vars(done) for done in run.epochs]
    assert found["test_perplexity"] == run.test_perplexity
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page)
    for done in run.epochs:
        assert f"{done.train_perplexity:.2f}" in cells


def test_texts_of_strangers_are_inert(run: RunHistory) -> None:
    config = run.config.model_copy(
        update={"data": run.config.data.model_copy(update={"path": EVIL})}
    )
    result = {**run.result, "published": [{"source": EVIL, "valid": EVIL}]}
    environment = {"command": ["ptblm", EVIL], "versions": {EVIL: EVIL}, "platform": EVIL}
    strange = RunHistory(
        run.path.with_name(EVIL.replace("/", "")),
        config,
        run.steps,
        run.epochs,
        result,
        environment,
        "finished",
    )
    model = AnalyzedModel(analysis(EVIL + "\x1b</script>"), EVIL, {"train": EVIL})
    text = report_page([strange, replace(strange, path=Path("/other"))], [model, model])
    parsed = Page(text)
    assert "img" not in parsed.tags()
    assert len([tag for tag, _ in parsed.elements if tag == "script"]) == 1
    assert EVIL in parsed.text
    assert "\x1b" not in text


def test_run_in_progress_and_missing_model_have_a_page(run: RunHistory) -> None:
    empty = replace(run, steps=[], epochs=[], result={}, environment={}, state="unfinished")
    text = Page(report_page([empty], [AnalyzedModel(None, "no checkpoint")])).text
    assert "No epoch and no step has been recorded yet." in text
    assert "no checkpoint" in text
    broken = replace(run, steps=[StepMetrics(1, 5, 0.5, math.nan, None, math.inf, 0.0)])
    Page(report_page([broken], [AnalyzedModel(None, "")]))


def test_page_of_endless_texts_is_small(run: RunHistory) -> None:
    long = "\x1b" * 10_000
    token = ScoredToken(long, 7.5, 3, True, [Candidate(long, 0.5)] * 5)
    model = replace(
        analysis(),
        passage=[[token] * 600],
        hardest=[HardToken(long, token, 3)] * 30,
        samples=[long] * 3,
        gate_tokens=[long] * 30,
        gates=[GateMap(layer, "forget", list(range(24)), [[0.123] * 24] * 30) for layer in (1, 2)],
    )
    result = {**run.result, "published": [{"source": long + str(n)} for n in range(10_000)]}
    environment = {"command": [long], "versions": {long: long}, "platform": long}
    epochs = [replace(run.epochs[0], epoch=n) for n in range(1, 20_000)]
    strange = replace(run, epochs=epochs, result=result, environment=environment)
    runs = [replace(strange, path=Path(f"/{number}-{long}")) for number in range(2)]
    page = report_page(runs, [AnalyzedModel(model, long)] * 2)
    assert len(page.encode()) < 1_000_000
    assert "\x1b" not in page


def test_generated_text_has_lines(run: RunHistory) -> None:
    page = report_page([run], [AnalyzedModel(replace(analysis(), samples=["one\ntwo"]))])
    assert "<blockquote>one<br>two</blockquote>" in page


def test_nearest_shipped_config_has_the_fewest_differences(run: RunHistory) -> None:
    name, differences = nearest_shipped(run.config)
    assert name in ("small", "test")
    assert "training.epochs" in [key for key, _, _ in differences]


@pytest.mark.parametrize(
    ("low", "high", "log", "expected"),
    [
        (0, 10, False, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.98, False, [0.2, 0.4, 0.6, 0.8]),
        (90, 210, True, [100, 150, 200]),
        (1, 1000, True, [1, 10, 100, 1000]),
        (5, 5, False, [5]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, log: bool, expected: list[float]) -> None:
    assert ticks(low, high, log=log) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (120, "120"), (1500, "1,500"), (20_000, "20k"), (3e6, "3M"), (1e-6, "1e-6")],
)
def test_labels_of_axes_are_short(value: float, text: str) -> None:
    assert short_number(value) == text


def test_lines_have_gaps_and_few_points() -> None:
    values = [(float(n), 2.0 if n % 100 else math.nan) for n in range(1, 5000)]
    svg = line_chart("t", [Series("a", values)], Axis("x"), Axis("y", log=True))
    path = re.findall(r' d="([^"]*)"', svg)[-1]
    assert path.count("M") + path.count("L") <= 401
    assert line_chart("t", [Series("a", [(1.0, -1.0)])], Axis("x"), Axis("y", log=True)) == ""
    assert svg.count("nan") == 0
    assert heat_map("t", ["a"], [[0.25, 2.0]]).count('fill-opacity="') == 2


def _luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_color_schemes(scheme: str) -> None:
    """Contrast of WCAG 2.2: 4.5 for text, 3 for lines."""
    style = (REPOSITORY / "ptblm/reporting/report/style.css").read_text()
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    )
    colors = {"light": light, "dark": dark}[scheme]
    assert light.keys() == dark.keys()

    def contrast(name: str, other: str) -> float:
        low, high = sorted(_luminance(colors[each]) for each in (name, other))
        return (high + 0.05) / (low + 0.05)

    for ground in ("paper", "soft", *(f"b{n}" for n in range(8))):
        assert contrast("ink", ground) >= 4.5, ground
    for text in ("quiet", "link"):
        assert contrast(text, "paper") >= 4.5, text
    for number in range(6):
        assert contrast(f"c{number}", "paper") >= 3, number


def test_model_of_unknown_corpus_is_noted_on_the_page(
    run: RunHistory, run_directory: Path, tmp_path: Path
) -> None:
    """A model that was imported with `--vocab` has no corpus."""
    last = run_directory / "checkpoints" / "last.safetensors"
    checkpoint = load_checkpoint(last)
    save_checkpoint(last, replace(checkpoint, corpus={**checkpoint.corpus, "name": ""}))
    runs = [run, read_run(run_directory)]
    write_report(runs, tmp_path / "report.html", device_name="cpu")
    text = Page((tmp_path / "report.html").read_text()).text
    assert "A passage, colored by surprisal" in text  # of the first run
    assert "was not analyzed: the corpus of an imported model is unknown" in text
    with pytest.raises(UsageError, match="--device cuda:99"):
        write_report(runs, tmp_path / "other.html", device_name="cuda:99")
    assert not (tmp_path / "other.html").exists()


def test_command_writes_the_page(run_directory: Path, ptblm: Ptblm) -> None:
    result = ptblm("report", run_directory)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"written      {run_directory}/report.html\n"
    text = Page((run_directory / "report.html").read_text()).text
    assert "A passage, colored by surprisal" in text
    assert f"{read_json(run_directory / 'result.json')['valid_perplexity']:.2f}" in text
    again = ptblm("report", run_directory)
    assert again.returncode == 2
    assert "pass --overwrite" in again.stderr
    (run_directory / "checkpoints" / "last.safetensors").unlink()
    without = ptblm("report", run_directory, "--overwrite")
    assert without.returncode == 0
    assert "was not analyzed" in without.stderr
    assert "was not analyzed" in (run_directory / "report.html").read_text()
    assert ptblm("report", *[run_directory] * 7).returncode == 2
