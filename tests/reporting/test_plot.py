"""Plots show what a run recorded; text of strangers in it is only text."""

import io
import math
import warnings
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ptblm.config.loading import load_config
from ptblm.reporting.history import RunHistory, StepMetrics
from ptblm.reporting.plot import FORMS, plot_runs, render
from ptblm.reporting.plot_panels import COLORS, MARKERS, clip_rate
from ptblm.training.records import EpochDone

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS = 30


def recorded(name: str = "my-run", *overrides: str, epochs: int = 3) -> RunHistory:
    """A run of 100 steps per epoch, each tenth recorded; half of the gradients are clipped."""
    steps = [
        StepMetrics(
            1 + (10 * n - 1) // 100,
            10 * n,
            1 / n,
            6 - n / 10,
            2.0 + n % 2 * 4,
            300.0 - n,
            500.0 + n,
        )
        for n in range(1, STEPS + 1)
    ]
    done = [
        EpochDone(n, 100 * n, 0.5, 300 / n, (200.0, 150.0, 160.0)[n - 1], 40.0, 500.0, best=True)
        for n in range(1, epochs + 1)
    ]
    config = load_config("test", [*overrides, "training.max_grad_norm=5"])
    bounds = {"entropy_bounds": {"train": 9.0, "valid": 10.25}}
    return RunHistory(Path("/runs") / name, config, steps, done, bounds, {}, "finished")


def lines(axes: "Axes") -> dict[str, tuple[list[float], list[float]]]:
    """The coordinates of each line of a panel by its label."""
    return {
        str(line.get_label()): (
            [float(x) for x in np.asarray(line.get_xdata())],
            [float(y) for y in np.asarray(line.get_ydata())],
        )
        for line in axes.lines
    }


def texts(svg: bytes) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_lines_are_the_recorded_values() -> None:
    run = recorded()
    perplexity, learning_rate, norm, speed = plot_runs([run]).axes
    of_steps = [step.step for step in run.steps]
    drawn = lines(perplexity)
    assert drawn["train"] == ([100, 200, 300], [300, 150, 100])
    assert drawn["valid"] == ([100, 200, 300], [200, 150, 160])
    assert drawn["best: 150, epoch 2"] == ([200], [150])
    assert drawn["entropy bound 10.25"][1] == [10.25, 10.25]
    x, y = drawn["train, steps"]
    assert x == of_steps
    assert y == pytest.approx([math.exp(step.nll) for step in run.steps])
    assert list(lines(learning_rate).values()) == [
        (of_steps, [step.learning_rate for step in run.steps])
    ]
    drawn = lines(norm)
    assert drawn["50% of steps clipped"] == (of_steps, [step.grad_norm for step in run.steps])
    assert drawn["threshold 5"][1] == [5, 5]
    assert list(lines(speed).values()) == [
        (of_steps, [step.tokens_per_second for step in run.steps])
    ]
    assert [axes.get_yscale() for axes in (perplexity, norm)] == ["log", "log"]


def test_runs_differ_in_color_and_in_marker() -> None:
    runs = [recorded(f"run-{n}", f"training.seed={n}") for n in range(8)]
    figure = plot_runs(runs, ["learning-rate", "speed"], "epochs")
    for axes in figure.axes:
        assert len({line.get_color() for line in axes.lines}) == 8
        assert len({line.get_marker() for line in axes.lines}) == 8
        assert [list(np.asarray(line.get_xdata()))[-1] for line in axes.lines] == [3.0] * 8
    assert (len(COLORS), len(MARKERS)) == (8, 8)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"seed={n}" for n in range(8)]


def test_splits_differ_in_line_style() -> None:
    axes = plot_runs([recorded("a"), recorded("b")], ["perplexity"]).axes[0]
    styles = {(str(line.get_label()), line.get_linestyle()) for line in axes.lines}
    assert {("train", "--"), ("valid", "-"), ("entropy bound 10.25", ":")} <= styles
    legend = axes.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["train", "valid", "best epoch", "entropy bound 10.25"]


@pytest.mark.parametrize("form", FORMS)
def test_same_runs_give_the_same_bytes(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> bytes:
        return render(plot_runs([recorded("a"), recorded("b")], ["perplexity"]), form)  # type: ignore[arg-type]

    first = drawn()
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert drawn() == first
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert first.startswith(starts[form])


def test_settings_of_the_user_do_not_matter() -> None:
    import matplotlib as mpl

    first = render(plot_runs([recorded()]), "svg")
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "black", "svg.fonttype": "path"}):
        assert render(plot_runs([recorded()]), "svg") == first


def test_png_has_the_width_of_a_column_at_300_dpi() -> None:
    image = Image.open(io.BytesIO(render(plot_runs([recorded()]), "png")))
    assert image.width == 3.5 * 300
    assert image.height < 8 * 300
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize(
    "name", ["$x^2$ a_b $", r"$\input{x}$", "a<b>&amp;--><script>", "日本 \udcff\x1b[2J\n\u202e"]
)
def test_names_of_runs_are_only_text(name: str) -> None:
    runs = [recorded(name), recorded("other")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = texts(render(plot_runs(runs, ["speed"]), "svg"))
        render(plot_runs(runs[:1], ["speed"]), "png")
        render(plot_runs(runs[:1], ["speed"]), "pdf")
    escaped = name.replace("\udcff\x1b[2J\n\u202e", r"\udcff\x1b[2J\n\u202e")
    assert escaped in drawn
    assert "tokens/s" in drawn


def test_run_in_its_first_epoch_has_steps_only() -> None:
    run = recorded(epochs=0)
    perplexity, *others = plot_runs([replace(run, result={}), recorded("b")]).axes
    assert len(lines(perplexity)["train, steps"][0]) == STEPS
    assert all(len(axes.lines) >= 2 for axes in others)
    assert list(lines(plot_runs([replace(run, result={})]).axes[0])) == ["train, steps"]


def test_run_without_recorded_steps_has_epochs_only() -> None:
    run = replace(recorded(epochs=1), steps=[])
    perplexity, learning_rate, norm, speed = plot_runs([run], axis="epochs").axes
    assert lines(perplexity)["valid"] == ([1], [200])
    assert [*lines(learning_rate).values(), *lines(speed).values()] == [([1], [0.5]), ([1], [500])]
    assert (len(norm.lines), norm.texts[0].get_text()) == (0, "not recorded")
    assert clip_rate(run) is None


def test_values_that_are_not_finite_are_gaps() -> None:
    run = recorded()
    odd = [
        run.steps[0]._replace(grad_norm=None, learning_rate=math.nan),
        run.steps[1]._replace(grad_norm=math.inf, nll=1e9),
        run.steps[2]._replace(grad_norm=0.0, nll=math.nan),
        run.steps[3],
    ]
    worst = replace(run.epochs[0], valid_perplexity=math.nan)
    changed = replace(run, steps=odd, epochs=[worst, *run.epochs[1:]])
    perplexity, learning_rate, norm, _ = plot_runs([changed]).axes
    assert np.isnan(lines(norm)["33% of steps clipped"][1]).tolist() == [True, True, True, False]
    assert np.isnan(lines(perplexity)["train, steps"][1]).tolist() == [False, True, True, False]
    assert np.isnan(next(iter(lines(learning_rate).values()))[1]).tolist() == [True] + [False] * 3
    assert "best: 150, epoch 2" in lines(perplexity)


NUMBERS = st.floats() | st.sampled_from([0.0, 1e30, 1e-300, 1e300, -1e30, 5.0])
COUNTS = st.integers(-(10**19), 10**19) | st.integers(0, 9)
STEP = st.builds(
    StepMetrics, COUNTS, COUNTS, NUMBERS, NUMBERS, st.none() | NUMBERS, NUMBERS, NUMBERS
)
EPOCH = st.builds(
    EpochDone, COUNTS, COUNTS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.booleans()
)


@settings(max_examples=6, deadline=None)
@given(
    steps=st.lists(STEP, max_size=4),
    epochs=st.lists(EPOCH, max_size=3),
    bounds=st.none() | NUMBERS | st.dictionaries(st.just("valid"), NUMBERS | st.text()),
    axis=st.sampled_from(["steps", "epochs", "tokens", "hours"]),
)
def test_any_numbers_can_be_drawn(
    steps: list[StepMetrics], epochs: list[EpochDone], bounds: object, axis: str
) -> None:
    run = replace(recorded(), steps=steps, epochs=epochs, result={"entropy_bounds": bounds})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert texts(render(plot_runs([run], axis=axis), "svg"))  # type: ignore[arg-type]


def test_many_points_are_fast_and_small() -> None:
    run = recorded()
    random = np.random.default_rng(0)
    steps = [
        StepMetrics(1, n, 1.0, 5 + noise, math.exp(noise), 100.0, 1e4)
        for n, noise in enumerate(random.normal(size=50_000).tolist(), 1)
    ]
    svg = render(plot_runs([replace(run, steps=steps, epochs=[])]), "svg")
    assert len(svg) < 2_000_000
