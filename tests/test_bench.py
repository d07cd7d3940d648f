"""`make bench`: contenders compute the same, FLOPs are counted, results are complete.

No test depends on a measured speed.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from benchmark import corpus as corpus_bench
from benchmark import train as train_bench
from benchmark.baseline import baseline_model
from benchmark.contenders import (
    AUTOCAST,
    BASELINE,
    COMPILED,
    TF32,
    TUNED,
    TUNED_AUTOCAST,
    Contender,
    contender_steps,
    contenders_for,
    steps_with_weights_of,
)
from benchmark.evaluation import bench_evaluation, evaluation_lines
from benchmark.flags import DEFAULTS, fp32_matmul_precision, read_flags, torch_defaults
from benchmark.gemm_only import Matmul, Method, fastest_method, matmul_call, step_matmuls
from benchmark.heads import HEADS, bench_heads, heads_lines
from benchmark.measure import (
    Spread,
    as_json,
    job_in_separate_process,
    ratios,
    spread,
    time_alternately,
)
from benchmark.options import OPTIONS, Option, bench_option, option_configs, option_line
from benchmark.processes import bench_processes, processes_lines
from benchmark.ptblm_run import training_steps
from benchmark.scores import bench_scores, scores_lines
from benchmark.startup import bench_startup
from benchmark.text import write_text
from benchmark.train import DisagreementError, bench_train, check_agreement, window_of_records
from torch.utils.flop_counter import FlopCounterMode

from ptblm.config.loading import load_config
from ptblm.config.schema import Config
from ptblm.corpus.corpus import load_corpus
from ptblm.errors import UsageError
from ptblm.model.build import build_model
from ptblm.run.setup import RunComponents, setup_run
from ptblm.training.records import StepDone
from tests.conftest import REPOSITORY, load_script, plain_environment
from tests.corpus.helpers import data_config

CPU = torch.device("cpu")
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
def test_bench_train_prints_and_writes_results(tmp_path: Path, text: Path) -> None:
    arguments = ["train", "--config", "test", "--precision", "fp32", "--steps", "4"]
    arguments += ["--device", "cpu", "--data", str(text), "--json", "results.json"]
    ended = bench(*arguments, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    last = ended.stdout.splitlines()[-1]
    assert (tmp_path / "results.json").read_text() == f"{last}\n"
    results = json.loads(last)
    assert results["environment"]["command"][1:] == arguments
    (found,) = results["train"]
    assert (found["config"], found["precision"], found["vocabulary"]) == ("test", "fp32", 1000)
    assert f"training, test, fp32, on {found['hardware']}" in ended.stdout.splitlines()
    contenders = ["PyTorch baseline", *([] if found["skipped"] else ["PyTorch tuned"])]
    versions = ["ptblm", *contenders]
    assert list(found["ms_per_step"]) == [*versions, "GEMM only"]
    assert list(found["tokens_per_second"]) == [*versions, "GEMM only"]
    assert list(found["peak_mb"]) == versions
    assert list(found["ratios"]) == [*(f"{c} / ptblm" for c in contenders), "ptblm / GEMM only"]
    for kind in ("ms_per_step", "tokens_per_second", "peak_mb", "ratios"):
        assert all(math.isfinite(value) and value > 0 for value in numbers(found[kind])), kind
    for name, tokens in found["tokens_per_second"].items():
        of_median = 1000 * found["tokens_per_step"] / found["ms_per_step"][name]["median"]
        assert tokens["low"] <= of_median <= tokens["high"]


def test_missing_corpus_is_an_error_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_script("bench")
    monkeypatch.setenv("PTBLM_CACHE", "")  # the script sets this variable
    with pytest.raises(typer.Exit) as caught:
        script.main(script.Section.TRAIN, config=["test"], data="no-such.txt")
    assert caught.value.exit_code == 3
    errors = capsys.readouterr().err
    assert errors.startswith("error: no-such.txt: ")
    assert "Traceback" not in errors


def test_json_path_is_checked_before_measuring(tmp_path: Path) -> None:
    ended = bench("train", "--json", "nowhere/results.json", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == (
        "error: --json nowhere/results.json: the directory nowhere does not exist\n"
    )


def test_results_before_a_failure_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_script("bench")

    def measure(_job: Any, _section: Any, results: dict[str, Any]) -> None:
        results["train"] = [{"ratios": Spread(2, 1, 3)}]
        raise ValueError("the second config")

    monkeypatch.setattr(script, "measure", measure)
    monkeypatch.setenv("PTBLM_CACHE", "")  # the script sets this variable
    with pytest.raises(ValueError, match="the second config"):
        script.main(json_path=tmp_path / "results.json", data="sample")
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last)["train"][0]["ratios"]["median"] == 2
    assert (tmp_path / "results.json").read_text() == f"{last}\n"


@pytest.mark.parametrize("tokenizer", ["word", "char", "byte"])
def test_contenders_read_the_text_with_the_configs_tokenizer(
    tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def record_size(of: Config, vocab_size: int) -> Any:
        sizes.append(vocab_size)
        return baseline_model(of, vocab_size)

    monkeypatch.setattr("benchmark.contenders.baseline_model", record_size)
    settings = config(f"data.tokenizer={tokenizer}")
    next(contender_steps(BASELINE, settings, CPU))
    assert sizes == [len(load_corpus(settings.data).vocabulary)]


def test_contenders_of_each_precision() -> None:
    assert contenders_for("fp32", CPU, compiled=True) == [BASELINE, TUNED, COMPILED]
    assert contenders_for("bf16", CPU, compiled=False) == [BASELINE, AUTOCAST, TUNED_AUTOCAST]
    assert contenders_for("tf32", torch.device("cuda"), compiled=False) == [BASELINE, TF32]


def test_ptblm_and_baseline_train_alike() -> None:
    """Ten steps with the hidden state carried, a forget_bias and two layers."""
    components = made("model.cell.forget_bias=1.0")
    steps = steps_with_weights_of(BASELINE, components)
    differences = check_agreement(training_steps(components), steps, "fp32", steps=10)
    assert max(differences.values()) < 1e-5


@pytest.mark.parametrize(
    "other",
    ["training.seed=1", "training.learning_rate=0.99", "training.max_grad_norm=0.3"],
)
def test_different_training_is_detected(other: str) -> None:
    with pytest.raises(DisagreementError, match="do not compute the same"):
        check_agreement(
            training_steps(made()), steps_with_weights_of(BASELINE, made(other)), "fp32"
        )


def test_different_weights_are_detected_in_bf16() -> None:
    ours = training_steps(made("run.precision=bf16"))
    theirs = steps_with_weights_of(AUTOCAST, made("training.seed=1"))
    with pytest.raises(DisagreementError, match="the same loss"):
        check_agreement(ours, theirs, "bf16")


def broken_steps(*_: Any) -> Any:
    raise ValueError("no C++ compiler")


@pytest.mark.slow
def test_contenders_that_fail_are_skipped_with_a_reason(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One computes something else, the other fails in its process."""
    wrong, failing = Contender("wrong"), Contender("failing", compiled=True)

    def different(contender: Contender, components: RunComponents) -> Any:
        of = made("training.seed=1") if contender == wrong else components
        return steps_with_weights_of(contender, of)

    def in_this_process(make: Callable[..., Any], contender: Contender, *rest: Any) -> Any:
        make = broken_steps if contender == failing else make
        return job_in_separate_process(make, contender, *rest)

    monkeypatch.setattr(train_bench, "steps_with_weights_of", different)
    monkeypatch.setattr(train_bench, "job_in_separate_process", in_this_process)
    monkeypatch.setattr(train_bench, "contenders_for", lambda *_, **__: [BASELINE, wrong, failing])
    monkeypatch.setattr(train_bench, "peak_megabytes", peak_of_nothing)
    found = bench_train(config(), steps=1)
    assert list(found["ms_per_step"]) == ["ptblm", "PyTorch baseline", "GEMM only"]
    assert found["skipped"]["failing"] == "ValueError: no C++ compiler"
    assert "do not compute the same loss" in found["skipped"]["wrong"]


def peak_of_nothing(*_: Any) -> float:
    return 1.0


def test_unsupported_configs_are_rejected() -> None:
    with pytest.raises(UsageError, match=r"model\.cell, training\.optimizer"):
        baseline_model(config("model.cell=gru", "training.optimizer=adam"), 10)


def test_short_corpus_is_an_error(text: Path) -> None:
    steps = training_steps(setup_run(config("training.num_steps=70", data=str(text))))
    with pytest.raises(UsageError, match="too short"):
        list(steps)


def test_windows_count_steps_not_records() -> None:
    """On CUDA a record covers several steps."""
    seen: list[int] = []

    def of_two_steps() -> Iterator[StepDone]:
        for record in training_steps(made()):
            if record.step % 2 == 0:
                seen.append(record.step)
                yield record

    window = window_of_records(of_two_steps(), 4)
    for step in (4, 8, 12):
        window()
        assert seen[-1] == step


def test_flop_count_equals_torchs_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the baseline, forward and backward, with gradients of the initial state."""
    sizes = ["model.embedding_size=6", "training.batch_size=3", "training.num_steps=5"]
    settings = config(*sizes)
    model = baseline_model(settings, 50)
    state = tuple(torch.zeros(2, 3, 16, requires_grad=True) for _ in "hc")
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)  # fused layers are not counted
    with FlopCounterMode(display=False) as counter:
        logits, _ = model(torch.zeros(5, 3, dtype=torch.long), state)
        logits.sum().backward()
    counted = counter.get_total_flops()
    assert sum(matmul.flop for matmul in step_matmuls(settings, 50)) == counted


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_matmul_method_has_the_right_shape(precision: str) -> None:
    matmul = Matmul(3, 4, 5)
    for layout in ("rrr", "rcc", "ccc", "packed"):
        result = matmul_call(matmul, Method("none", layout), CPU, precision)()
        assert isinstance(result, torch.Tensor)
        assert result.shape == (3, 5)
        assert result.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
    assert fastest_method(3, 4, 5, CPU, precision).route in ("none", "bf16")


def test_baseline_runs_with_torchs_default_flags() -> None:
    before = read_flags()
    with fp32_matmul_precision("bf16", CPU):
        changed = read_flags()
        with torch_defaults():
            assert read_flags() == DEFAULTS
        assert read_flags() == changed != DEFAULTS
    assert read_flags() == before


def test_tuned_contender_sets_medium_precision_and_restores_it() -> None:
    before = read_flags(), torch.get_float32_matmul_precision()
    with TUNED.flags(CPU):
        assert torch.get_float32_matmul_precision() == "medium"
        assert read_flags() != DEFAULTS
    assert (read_flags(), torch.get_float32_matmul_precision()) == before


@pytest.mark.parametrize(
    ("contender", "kind"), [(BASELINE, "ieee"), (TF32, "tf32"), (AUTOCAST, None)]
)
def test_cuda_fp32_precision_covers_cudnns_lstm(contender: Contender, kind: str | None) -> None:
    before = read_flags()
    with contender.flags(torch.device("cuda")):
        rnn: Any = torch.backends.cudnn.rnn
        found = (torch.backends.cuda.matmul.fp32_precision, rnn.fp32_precision)
        assert found == (kind, kind) if kind else read_flags() == DEFAULTS
    assert read_flags() == before


def test_bench_scores() -> None:
    threads = torch.get_num_threads()
    found = bench_scores(config(), sentences=70)
    assert torch.get_num_threads() == threads
    assert found["cost of columns"].median > 0
    assert found["speedup of batches"].median > 0
    lines = scores_lines({"config": "small", **found})
    assert sum("tokens/s" in line for line in lines) == 4
    assert all(len(line) <= 100 for line in lines)


def test_bench_evaluation() -> None:
    found = bench_evaluation(config(), seconds=0.02)
    assert found["tokens"]["ptblm"] > found["tokens"]["baseline"] >= 10
    assert found["score_difference"] < 1e-5
    assert all(math.isfinite(value) for value in numbers(as_json(found)))
    lines = evaluation_lines({"config": "small", **found})
    assert any("ptblm / baseline" in line for line in lines)
    assert lines[1].endswith(f"on {found['hardware']}")


@pytest.mark.skipif(sys.platform == "win32", reason="memory is not measured on Windows")
@pytest.mark.slow
def test_bench_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make_text(path: Path, megabytes: int, seed: int) -> None:
        write_text(path, words=megabytes * 2000, vocabulary=1000)

    monkeypatch.setenv("PTBLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(corpus_bench, "make_text", make_text)
    found = corpus_bench.bench_corpus(tmp_path, megabytes=20, steps=3)
    assert list(found["read"]) == ["ptblm", "ptblm, cached", "simple Python"]
    for read in found["read"].values():
        assert all(math.isfinite(value) and value > 0 for value in read.values())
    # 4,000 words, and an <eos> for each of their 191 lines.
    assert found["read"]["simple Python"]["tokens"] == 4191
    training = found["training"]
    assert training["steps"] == 3
    # The gradient of the embedding has one row per distinct word of a step, at most 400.
    model = build_model(load_config("small").model, training["vocabulary"])
    weights, embedding = 4 * model.parameter_count(), model.embedding.weight.nbytes
    held = training["weights_and_gradients_mb"] * 1e6
    assert 0 < held - (2 * weights - embedding) <= 400 * 200 * 4
    assert len(corpus_bench.corpus_lines(found)) == 6


@pytest.mark.slow
def test_bench_startup(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), *sys.path]))
    settings = config(data=str(text))
    found = bench_startup(tmp_path, settings, "test", times=1)
    assert 0 < found["help_seconds"].median < found["first_step_seconds"].median


def test_random_text_has_the_requested_vocabulary(text: Path) -> None:
    corpus = load_corpus(data_config(text))
    assert len(corpus.vocabulary) == 1000
    assert sum(len(split.ids) for split in corpus.splits.values()) == 30_000 + math.ceil(
        30_000 / 21
    )


def test_spread_is_median_and_quartiles() -> None:
    assert spread([5, 1, 2, 4, 3]) == Spread(3, 2, 4)
    assert spread([7]) == Spread(7, 7, 7)
    assert ratios([2, 30, 4], [1, 10, 1]) == Spread(3, 2.5, 3.5)


def test_jobs_are_timed_alternately() -> None:
    calls: list[str] = []
    jobs = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = time_alternately(jobs, 2, lambda: None)
    assert "".join(calls) == "aaabbb" + "abab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


@pytest.mark.parametrize("name", ["small", "medium"])
@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_changes_the_config(option: Option, name: str) -> None:
    without, with_option = option_configs(load_config(name), option).values()
    assert with_option != without


@pytest.mark.slow
def test_steps_of_two_processes_are_measured(text: Path, tmp_path: Path) -> None:
    rows = bench_processes(config("training.batch_size=4", data=str(text)), 4, tmp_path)
    assert [(row["processes"], row["measured"]) for row in rows] == [
        *((1, True), (2, True), (4, False))
    ]
    assert rows[1]["ms_per_step"].median > rows[1]["ms_of_exchange"].median
    assert rows[0]["gradient_bytes"] > 0
    assert 0 < rows[2]["share"] < 1
    assert len(processes_lines("small", rows)) == 3 + len(rows)


def test_heads_are_compared_with_the_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.heads.HEADS", {n: HEADS[n] for n in ("softmax", "adaptive")})
    monkeypatch.setattr("benchmark.heads.in_fresh_process", lambda function, *args: function(*args))
    exact, adaptive = results = bench_heads(CPU, 2, vocab_size=4000)
    assert exact["parameters"] == 4000 * 651
    assert adaptive["parameters"] < exact["parameters"]
    assert exact["speedup"].median == 1
    for found in results:
        assert 0 <= found["megabytes"] < 1000
        assert found["ms_per_step"].median > 0
    assert [line.split()[0] for line in heads_lines(results)[3:]] == ["softmax", "adaptive"]


@pytest.mark.parametrize("name", ["random_num_steps", "dropout, locked"])
def test_cost_of_an_option_is_that_of_its_tokens(name: str, text: Path) -> None:
    (option,) = [option for option in OPTIONS if option.name == name]
    found = bench_option(config(data=str(text)), 4, option)
    assert (found["windows"], found["steps_per_window"], found["tokens_per_step"]) == (4, 1, 400)
    assert found["ms_per_step"].keys() == {"without", "with"}
    for ms in found["ms_per_step"].values():
        assert 0 < ms.low <= ms.median <= ms.high
    assert found["ratio"].low > 0
    assert option_line(found).split("  ")[1] == name
