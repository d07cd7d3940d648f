"""`make bench` compares equals, counts what it says it counts, and prints it.

No speed is claimed.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark import corpus as corpus_bench
from benchmark import train as train_bench
from benchmark.evaluation import bench_evaluation, evaluation_lines
from benchmark.flags import DEFAULTS, fp32_products_as, plain_flags, read_flags, torch_defaults
from benchmark.floor import Product, Way, fastest_way, multiplication, step_products
from benchmark.measure import Spread, as_json, ratios, spread, time_in_turn
from benchmark.plain import plain_model
from benchmark.startup import bench_startup
from benchmark.text import write_text
from benchmark.train import plain_steps_like, ptblm_steps, refuse_difference, window_of_records
from torch.utils.flop_counter import FlopCounterMode

from ptblm.config.loading import load_config
from ptblm.config.schema import Config
from ptblm.corpus.corpus import load_corpus
from ptblm.errors import UsageError
from ptblm.model.build import build_model
from ptblm.run.setup import RunComponents, setup_run
from ptblm.training.records import StepDone
from tests.conftest import REPOSITORY, load_script, plain_environment

SETTINGS = ["model.hidden_size=16", "run.device=cpu"]


def config(*overrides: str, data: str = "sample") -> Config:
    return load_config("small", [*SETTINGS, f"data.path={data}", *overrides])


def made(*overrides: str) -> RunComponents:
    return setup_run(config(*overrides))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "text.txt"
    write_text(path, words=30_000, vocabulary=1000)
    return path


def bench(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts" / "bench.py"), *arguments],
        cwd=cwd,
        env=plain_environment(),
        capture_output=True,
        text=True,
    )


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers(inner)
    elif isinstance(value, int | float):
        yield value


@pytest.mark.slow
def test_training_is_measured_from_the_command_line(tmp_path: Path, text: Path) -> None:
    arguments = ["train", "--config", "test", "--precision", "fp32", "--steps", "4"]
    arguments += ["--device", "cpu", "--data", str(text), "--json", "figures.json"]
    ended = bench(*arguments, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    last = ended.stdout.splitlines()[-1]
    assert (tmp_path / "figures.json").read_text() == f"{last}\n"
    figures = json.loads(last)
    assert figures["environment"]["command"][1:] == arguments
    (found,) = figures["train"]
    assert (found["config"], found["precision"], found["vocabulary"]) == ("test", "fp32", 1000)
    versions = ["ptblm", "plain"]
    assert list(found["ms_per_step"]) == [*versions, "products alone"]
    assert list(found["words_per_second"]) == [*versions, "products alone"]
    assert list(found["peak_mb"]) == versions
    assert list(found["ratios"]) == ["plain / ptblm", "ptblm / products alone"]
    for kind in ("ms_per_step", "words_per_second", "peak_mb", "ratios"):
        assert all(math.isfinite(value) and value > 0 for value in numbers(found[kind])), kind
    for name, words in found["words_per_second"].items():
        of_median = 1000 * found["tokens_per_step"] / found["ms_per_step"][name]["median"]
        assert words["low"] <= of_median <= words["high"]


def test_what_cannot_be_measured_is_a_clear_line(tmp_path: Path) -> None:
    ended = bench("train", "--config", "test", "--data", "no-such.txt", cwd=tmp_path)
    assert ended.returncode == 3
    assert ended.stderr.startswith("error: no-such.txt: no such directory or file")
    assert "Traceback" not in ended.stderr


def test_figures_that_have_no_place_are_refused_before_they_are_made(tmp_path: Path) -> None:
    ended = bench("train", "--json", "nowhere/figures.json", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == "error: --json nowhere/figures.json: there is no directory nowhere\n"


def test_what_was_measured_before_a_failure_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_script("bench")

    def measure(_job: Any, _section: Any, figures: dict[str, Any]) -> None:
        figures["train"] = [{"ratios": Spread(2, 1, 3)}]
        raise ValueError("the second config")

    monkeypatch.setattr(script, "measure", measure)
    monkeypatch.setenv("PTBLM_CACHE", "")  # it sets its own
    with pytest.raises(ValueError, match="the second config"):
        script.main(json_path=tmp_path / "figures.json", data="sample")
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last)["train"][0]["ratios"]["median"] == 2
    assert (tmp_path / "figures.json").read_text() == f"{last}\n"


@pytest.mark.parametrize("level", ["word", "char", "byte"])
def test_the_plain_version_reads_the_text_at_the_configs_level(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def seen(of: Config, vocab_size: int) -> Any:
        sizes.append(vocab_size)
        return plain_model(of, vocab_size)

    monkeypatch.setattr(train_bench, "plain_model", seen)
    settings = config(f"data.tokenizer={level}")
    train_bench.plain_run(settings, "fp32", torch.device("cpu"))
    assert sizes == [len(load_corpus(settings.data.path, settings.data.tokenizer).vocabulary)]


def test_ptblm_and_the_plain_version_train_alike() -> None:
    """In their first ten steps, the state carried, with a forget_bias and two layers."""
    components = made("model.cell.forget_bias=1.0")
    plain = plain_steps_like(components)
    apart = refuse_difference(ptblm_steps(components), plain, "fp32", steps=10)
    assert max(apart.values()) < 1e-5


@pytest.mark.parametrize(
    "other",
    ["training.seed=1", "training.learning_rate=0.99", "training.max_grad_norm=0.3"],
)
def test_a_plain_version_that_does_something_else_is_refused(other: str) -> None:
    with pytest.raises(ValueError, match="do not compute the same"):
        refuse_difference(ptblm_steps(made()), plain_steps_like(made(other)), "fp32")


def test_other_weights_are_refused_in_reduced_precision_too() -> None:
    ours = ptblm_steps(made("run.precision=bf16"))
    with pytest.raises(ValueError, match="by loss they are"):
        refuse_difference(ours, plain_steps_like(made("training.seed=1"), "bf16"), "bf16")


def test_a_model_that_is_not_the_plain_one_is_refused() -> None:
    with pytest.raises(UsageError, match="no other cell, optimizer"):
        plain_model(config("model.cell=gru", "training.optimizer=adam"), 10)


def test_a_text_that_ends_too_soon_is_refused(text: Path) -> None:
    steps = ptblm_steps(setup_run(config("training.num_steps=70", data=str(text))))
    with pytest.raises(UsageError, match="too short"):
        list(steps)


def test_a_window_is_so_many_steps_whatever_a_record_tells_of() -> None:
    """Here of two each, as on a device that goes through blocks of them."""
    seen: list[int] = []

    def of_two_steps() -> Iterator[StepDone]:
        for record in ptblm_steps(made()):
            if record.step % 2 == 0:
                seen.append(record.step)
                yield record

    window = window_of_records(of_two_steps(), 4)
    for step in (4, 8, 12):
        window()
        assert seen[-1] == step


def test_the_floor_counts_the_products_that_torch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain version's own, forward and backward, with gradients to the start state."""
    sizes = ["model.embedding_size=6", "training.batch_size=3", "training.num_steps=5"]
    settings = config(*sizes)
    model = plain_model(settings, 50)
    state = tuple(torch.zeros(2, 3, 16, requires_grad=True) for _ in "hc")
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)  # its fused layers go uncounted
    with FlopCounterMode(display=False) as counter:
        logits, _ = model(torch.zeros(5, 3, dtype=torch.long), state)
        torch.autograd.backward(logits.sum())
    counted = counter.get_total_flops()
    assert sum(product.flop for product in step_products(settings, 50)) == counted


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_way_of_the_floor_makes_a_product_of_its_shape(precision: str) -> None:
    cpu = torch.device("cpu")
    product = Product(3, 4, 5)
    for layout in ("rrr", "rcc", "ccc", "packed"):
        result = multiplication(product, Way("none", layout), cpu, precision)()
        assert isinstance(result, torch.Tensor)
        assert result.shape == (3, 5)
        assert result.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
    assert fastest_way(3, 4, 5, cpu, precision).route in ("none", "bf16")


def test_the_plain_version_runs_under_torchs_own_flags() -> None:
    before = read_flags()
    with fp32_products_as("bf16", torch.device("cpu")):
        changed = read_flags()
        with torch_defaults():
            assert read_flags() == DEFAULTS
        assert read_flags() == changed != DEFAULTS
    assert read_flags() == before


@pytest.mark.parametrize(
    ("precision", "kind"), [("fp32", "ieee"), ("tf32", "tf32"), ("bf16", None), ("fp16", None)]
)
def test_on_cuda_the_plain_versions_fp32_is_fp32_in_its_lstm_too(
    precision: str, kind: str | None
) -> None:
    before = read_flags()
    with plain_flags(precision, torch.device("cuda")):
        rnn: Any = torch.backends.cudnn.rnn
        found = (torch.backends.cuda.matmul.fp32_precision, rnn.fp32_precision)
        assert found == (kind, kind) if kind else read_flags() == DEFAULTS
    assert read_flags() == before


def test_evaluation_is_measured() -> None:
    found = bench_evaluation(config(), seconds=0.02)
    assert found["words"]["ptblm"] > found["words"]["plain"] >= 10
    assert found["score_difference"] < 1e-5
    assert all(math.isfinite(value) for value in numbers(as_json(found)))
    lines = evaluation_lines({"config": "small", **found})
    assert any("ptblm / plain" in line for line in lines)


def test_reading_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make_text(path: Path, megabytes: int, seed: int) -> None:
        write_text(path, words=megabytes * 2000, vocabulary=1000)

    monkeypatch.setenv("PTBLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(corpus_bench, "make_text", make_text)
    found = corpus_bench.bench_corpus(tmp_path, megabytes=20, steps=3)
    assert list(found["read"]) == ["ptblm", "ptblm, again", "plain"]
    for read in found["read"].values():
        assert all(math.isfinite(value) and value > 0 for value in read.values())
    # 4,000 words, and an <eos> for each of their 191 lines.
    assert found["read"]["plain"]["tokens"] == 4191
    training = found["training"]
    assert training["steps"] == 3
    # The embedding's gradient has rows for the 400 words of a step, or less.
    model = build_model(load_config("small").model, training["vocabulary"])
    weights, embedding = 4 * model.parameter_count(), model.embedding.weight.nbytes
    held = training["weights_and_gradients_mb"] * 1e6
    assert 0 < held - (2 * weights - embedding) <= 400 * 200 * 4
    assert len(corpus_bench.corpus_lines(found)) == 6


@pytest.mark.slow
def test_startup_is_measured(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), *sys.path]))
    settings = config(data=str(text))
    found = bench_startup(tmp_path, settings, "test", times=1)
    assert 0 < found["help_seconds"].median < found["first_step_seconds"].median


def test_the_made_text_has_the_vocabulary_that_was_asked_for(text: Path) -> None:
    corpus = load_corpus(str(text))
    assert len(corpus.vocabulary) == 1000
    assert sum(len(split.ids) for split in corpus.splits.values()) == 30_000 + math.ceil(
        30_000 / 21
    )


def test_spreads_are_medians_and_quartiles() -> None:
    assert spread([5, 1, 2, 4, 3]) == Spread(3, 2, 4)
    assert spread([7]) == Spread(7, 7, 7)
    assert ratios([2, 30, 4], [1, 10, 1]) == Spread(3, 2.5, 3.5)


def test_jobs_are_timed_in_turn() -> None:
    calls: list[str] = []
    jobs = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = time_in_turn(jobs, 2, lambda: None)
    assert "".join(calls) == "aaabbb" + "abab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}
