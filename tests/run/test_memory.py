"""Memory does not grow during a run, and running out of it is a clear error."""

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
from ptblm.run import evaluate, evaluated_text, load_model, loop
from ptblm.run.setup import setup_run
from ptblm.run.train import train
from tests.conftest import REPOSITORY, Ptblm, load_script, plain_environment
from tests.corpus.helpers import data_config
from tests.run.helpers import options, start, tiny_config

STATM = Path("/proc/self/statm")
needs_proc = pytest.mark.skipif(not STATM.exists(), reason="needs Linux's /proc")


def resident_bytes(statm: Path = STATM) -> int:
    pages = int(statm.read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@needs_proc
def test_memory_is_constant_over_1250_steps() -> None:
    overrides = ["data.path=sample", "model.hidden_size=16", "model.dropout=0.2"]
    overrides += ["training.batch_size=16", "training.num_steps=4", "training.epochs=4"]
    records = setup_run(load_config("small", overrides)).trainer.records()
    for _ in range(750):  # includes a validation, which has its own buffers
        next(records)
    before = resident_bytes()
    for _ in range(1250):
        next(records)
    assert resident_bytes() - before < 4_000_000


@pytest.mark.slow
@needs_proc
def test_memory_of_a_process_is_constant_over_8000_steps(tmp_path: Path) -> None:
    """A process that logs every step and saves every tenth one.

    Its memory grows in the first two epochs, which end before step 5,100. After that, a growth
    below 2 MB in 8,000 steps is below 250 bytes per step and 2.5 kB per save. Medians leave out the
    temporary memory of a save or a validation.
    """
    settings = ["model.hidden_size=16", "model.dropout=0.2", "training.batch_size=4"]
    settings += ["training.num_steps=4", "training.epochs=6", "run.log_every=1"]
    settings += ["run.checkpoint_every=10 steps", "run.keep_checkpoints=3"]
    arguments = ["train", "--data", "sample", *options(settings), "--run-dir", "run"]
    process = start(*arguments, cwd=tmp_path)
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
        try:
            resident = resident_bytes(statm)
        except FileNotFoundError:  # the process has just ended
            break
        if 6000 <= records < 7000:  # all buffers except that of the test exist by now
            early.append(resident)
        if 14_000 <= records < 15_000:
            late.append(resident)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    before, after = median(early), median(late)
    print(f"\n{before / 1e6:.1f} MB, then {after / 1e6:.1f} MB")
    assert after - before < 2_000_000


ONE_STEP = """
import sys, torch
from pathlib import Path
from ptblm.config.model import ModelConfig
from ptblm.model.build import build_model
from ptblm.backend.precision import Precision
from ptblm.training.step import Batch, forward_backward

def peak_resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

def print_memory_of_step(vocab_size):
    model = build_model(ModelConfig(hidden_size=16), vocab_size)
    model.embedding.sparse = True
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.1, 0.1)
    ids = torch.randint(vocab_size, (20, 21))
    precision = Precision("fp32", torch.device("cpu"))
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, which includes the parent's
    before = peak_resident()
    batch, hidden_state = Batch(ids[:, :-1].int(), ids[:, 1:]), model.initial_state(20)
    forward_backward(model, batch, hidden_state, torch.Generator(), precision)
    gradient = model.head.weight.grad.nbytes
    print(peak_resident() - before - gradient // 1024)

for vocab_size in sys.argv[1:]:
    print_memory_of_step(int(vocab_size))
"""


@needs_proc
def test_memory_of_a_step_does_not_grow_with_vocabulary() -> None:
    """Except for weights and their gradients. All logits for 250,000 words would take 400 MB.

    A chunk has at least 128 positions: 128 MB for 250,000 words.
    """
    # The first step also needs memory that all steps share.
    command = [sys.executable, "-c", ONE_STEP, "10000", "10000", "250000"]
    run = subprocess.run(
        command, env=plain_environment(), capture_output=True, text=True, check=True
    )
    _, small, large = (int(kilobytes) / 1024 for kilobytes in run.stdout.split())
    print(f"\n{small} MB, then {large} MB")
    assert large - small < 270  # two chunks of logits are 256


@needs_proc
def test_release_frees_the_memory_of_a_cached_text(tmp_path: Path) -> None:
    path = tmp_path / "random.bin"
    path.write_bytes(os.urandom(40_000_000))
    corpus = load_corpus(data_config(path, "byte"))
    ids = corpus.splits["train"].ids
    before = resident_bytes()
    total = ids.sum()
    assert resident_bytes() - before > 30_000_000
    corpus.release()
    assert resident_bytes() - before < 5_000_000
    assert ids.sum() == total


def test_run_releases_the_text_regularly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = []
    monkeypatch.setattr(Corpus, "release", lambda corpus: released.append(corpus.name))
    monkeypatch.setattr(loop, "_RECORDS_PER_RELEASE", 10)
    train(tiny_config(), tmp_path / "run")
    assert 3 < len(released) < 20  # 39 steps, and a few records of evaluation


@pytest.mark.slow
@needs_proc
def test_memory_does_not_grow_with_text_size(ptblm: Ptblm, tmp_path: Path) -> None:
    """Reads the text and makes two steps. 240 MB of text and their ids would take 360 MB."""
    peaks = []
    for megabytes in (60, 300):
        path = tmp_path / f"{megabytes}.txt"
        load_script("make_large_text").make_text(path, megabytes)
        settings = ["--set", "model.hidden_size=4", "--set", "training.num_steps=4"]
        run = ptblm("train", "--data", path, *settings, "--dry-run")
        assert run.returncode == 0, run.stderr
        found = re.search(r"peak memory      ([\d,]+) MB", run.stdout)
        assert found is not None
        peaks.append(int(found[1].replace(",", "")))
        path.unlink()
    print(f"\n{peaks[0]} MB, then {peaks[1]} MB")
    assert peaks[1] - peaks[0] < 60


def out_of_memory(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def test_out_of_memory_in_evaluation_is_a_usage_error(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = str(REPOSITORY / "data" / "sample" / "test.txt")

    def score() -> None:
        evaluate.evaluate_checkpoint(finished, text=text, device_name="cpu")

    score()
    parts = [(evaluate, "evaluate"), (evaluated_text, "read_text")]
    parts += [(load_model, "model_from_checkpoint")]
    for module, function in parts:
        with monkeypatch.context() as patch:
            patch.setattr(module, function, out_of_memory)
            with pytest.raises(UsageError, match="out of memory during evaluation") as caught:
                score()
        assert "--device cpu" in str(caught.value)
        assert caught.value.exit_code == 2
