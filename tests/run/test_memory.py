"""Memory: a long run's does not grow, and running out of it is a clear line."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest
import torch

from ptblm.config.loading import load_config
from ptblm.corpus.corpus import Corpus, load_corpus
from ptblm.errors import UsageError
from ptblm.run import evaluate, loop
from ptblm.run.setup import setup_run
from ptblm.run.train import start_run
from tests.conftest import REPOSITORY, Ptblm, load_script, plain_environment
from tests.run.test_reliability import start

STATM = Path("/proc/self/statm")
needs_proc = pytest.mark.skipif(not STATM.exists(), reason="needs Linux's /proc")


def resident_bytes(statm: Path = STATM) -> int:
    pages = int(statm.read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@needs_proc
def test_memory_is_flat_over_five_thousand_steps() -> None:
    overrides = ["data.path=sample", "model.hidden_size=16", "model.dropout=0.2"]
    overrides += ["training.batch_size=4", "training.num_steps=4", "training.epochs=4"]
    records = setup_run(load_config("small", overrides)).trainer.records()
    for _ in range(3000):  # past the first validation, which has its own buffers
        next(records)
    before = resident_bytes()
    for _ in range(5000):
        next(records)
    assert resident_bytes() - before < 8_000_000


@pytest.mark.slow
@needs_proc
def test_memory_of_a_whole_run_is_flat_over_nine_thousand_steps(tmp_path: Path) -> None:
    """A real process with all that a run does: every step logged, and a save at every tenth.

    Less than 4 MB from one thousand steps to the thousand that come 9,000 later is less than 450
    bytes a step, and 4.5 kB a save. Medians: a save or a validation takes some for its time.
    """
    settings = ["model.hidden_size=16", "model.dropout=0.2", "training.batch_size=4"]
    settings += ["training.num_steps=4", "training.epochs=6", "run.log_every=1"]
    settings += ["run.checkpoint_every=10 steps", "run.keep_checkpoints=3"]
    options = [part for setting in settings for part in ("--set", setting)]
    process = start("train", "--data", "sample", *options, "--run-dir", "run", cwd=tmp_path)
    statm, metrics = Path(f"/proc/{process.pid}/statm"), tmp_path / "run" / "metrics.jsonl"
    early, late = [], []
    records, position = 0, 0
    while process.poll() is None:
        time.sleep(0.05)
        if metrics.exists():
            with metrics.open("rb") as file:
                file.seek(position)
                new = file.read()
            records, position = records + new.count(b"\n"), position + len(new)
        resident = resident_bytes(statm)
        if 4000 <= records < 5000:  # all buffers but the test's were needed once by then
            early.append(resident)
        if 13_000 <= records < 14_000:
            late.append(resident)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    before, after = median(early), median(late)
    print(f"\n{before / 1e6:.1f} MB, then {after / 1e6:.1f} MB")
    assert after - before < 4_000_000


ONE_STEP = """
import sys, torch
from pathlib import Path
from ptblm.config.model import ModelConfig
from ptblm.model.build import build_model
from ptblm.training.gradients import fast_backward
from ptblm.backend.precision import Precision

vocab_size, hidden_size = int(sys.argv[1]), 16
model = build_model(ModelConfig(hidden_size=hidden_size), vocab_size)
model.embedding.sparse = True
for parameter in model.parameters():
    torch.nn.init.uniform_(parameter, -0.1, 0.1)
ids = torch.randint(vocab_size, (20, 21))
precision = Precision("fp32", torch.device("cpu"))
def most_resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

Path("/proc/self/clear_refs").write_text("5")  # a child's peak begins with its parent's
before = most_resident()
fast_backward(
    model, precision, ids[:, :-1], ids[:, 1:], model.initial_state(20), torch.Generator()
)
gradient = model.head.weight.grad.nbytes
print(most_resident() - before - gradient // 1024)
"""


@needs_proc
def test_memory_of_a_step_is_flat_in_the_vocabulary() -> None:
    """Weights and their gradients apart. The logits of 250,000 words would be 400 MB."""
    megabytes = {}
    for vocab_size in (10_000, 250_000):
        command = [sys.executable, "-c", ONE_STEP, str(vocab_size)]
        run = subprocess.run(
            command, env=plain_environment(), capture_output=True, text=True, check=True
        )
        megabytes[vocab_size] = int(run.stdout) / 1024
    print(f"\n{megabytes}")
    assert megabytes[250_000] - megabytes[10_000] < 100  # two chunks of logits are 64


@needs_proc
def test_a_cached_text_takes_memory_only_while_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "random.bin"
    path.write_bytes(os.urandom(40_000_000))
    corpus = load_corpus(str(path), "byte")
    ids = corpus.splits["train"].ids
    before = resident_bytes()
    total = ids.sum()
    assert resident_bytes() - before > 30_000_000
    corpus.release()
    assert resident_bytes() - before < 5_000_000
    assert ids.sum() == total


def test_a_run_lets_go_of_the_text_now_and_then(
    in_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = []
    monkeypatch.setattr(Corpus, "release", lambda corpus: released.append(corpus.name))
    monkeypatch.setattr(loop, "_RECORDS_PER_RELEASE", 10)
    overrides = ["data.path=sample", "model.hidden_size=4", "training.epochs=1"]
    overrides += ["training.batch_size=50"]
    config = load_config("small", overrides)
    start_run(config, "run", Path("run"), overwrite=False, command=["ptblm"])
    assert 3 < len(released) < 20  # 39 steps, and a few records of evaluation


@pytest.mark.slow
@needs_proc
def test_memory_does_not_grow_with_the_text(ptblm: Ptblm, tmp_path: Path) -> None:
    """Reading and two steps, on 240 MB more: these and their ids would be 360 MB more in memory."""
    peaks = []
    for megabytes in (60, 300):
        path = tmp_path / f"{megabytes}.txt"
        load_script("make_large_text").make_text(path, megabytes)
        settings = ["--set", "model.hidden_size=4", "--set", "training.num_steps=4"]
        run = ptblm("train", "--data", path, *settings, "--dry-run")
        assert run.returncode == 0, run.stderr
        found = re.search(r"expected memory  ([\d,]+) MB at its peak", run.stdout)
        assert found is not None
        peaks.append(int(found[1].replace(",", "")))
        path.unlink()
    print(f"\n{peaks[0]} MB, then {peaks[1]} MB")
    assert peaks[1] - peaks[0] < 60


def out_of_memory(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def test_scoring_without_enough_memory_is_a_clear_line(
    in_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["data.path=sample", "model.hidden_size=4", "training.epochs=1"]
    config = load_config("small", overrides)
    start_run(config, "run", Path("run"), overwrite=False, command=["ptblm"])
    text = str(REPOSITORY / "data" / "sample" / "test.txt")

    def score() -> None:
        evaluate.evaluate_checkpoint(
            Path("run"), split=None, data=None, text=text, device_name="cpu"
        )

    score()
    for part in ("running_scores", "read_text", "trained_model"):
        with monkeypatch.context() as patch:
            patch.setattr(evaluate, part, out_of_memory)
            with pytest.raises(UsageError, match="out of memory while scoring") as caught:
                score()
        assert "--device cpu" in str(caught.value)
        assert caught.value.exit_code == 2
