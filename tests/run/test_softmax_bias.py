"""The initial bias of the softmax: with log_unigram, a model starts as a unigram model."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from ptblm.config.loading import load_config
from ptblm.run.setup import setup_run
from ptblm.training.records import StepDone
from ptblm.training.trainer import Trainer
from tests.run.helpers import tiny_config

ZERO = ["model.init_scale=0.0", "model.softmax_bias=log_unigram"]


def train_loss(trainer: Trainer) -> float:
    """The mean loss of the initial model over all targets of the batches."""
    text, total, count = trainer.epoch_text, 0.0, 0
    with torch.no_grad():
        for index in range(len(text)):
            batch = text[index]
            nll, _ = trainer.model.nll(batch.inputs, batch.targets, trainer.hidden_state)
            total, count = total + nll.double().sum().item(), count + nll.numel()
    return total / count


@pytest.mark.parametrize("head", ["softmax", "mixture"])
def test_first_loss_is_the_unigram_entropy(head: str) -> None:
    components = setup_run(tiny_config(*ZERO, f"model.head={head}"))
    counts = Counter(components.corpus.splits["train"].ids.tolist())
    tokens = sum(counts.values())
    text = components.trainer.epoch_text
    targets = [i for index in range(len(text)) for i in text[index].targets.flatten().tolist()]
    cross_entropy = -sum(math.log(counts[i] / tokens) for i in targets) / len(targets)
    entropy = -sum(n / tokens * math.log(n / tokens) for n in counts.values())
    assert train_loss(components.trainer) == pytest.approx(cross_entropy, rel=1e-6)
    assert cross_entropy == pytest.approx(entropy, rel=1e-3)  # the batches lack the last tokens


def test_absent_word_counts_as_half_an_occurrence(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("a\nb\nabsent\n<unk>\n<eos>\n")
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("a a b <unk>\n" * 40)
    overrides = [f"data.path={tmp_path}", f"data.vocabulary.file={tmp_path / 'words'}"]
    components = setup_run(tiny_config(*ZERO, *overrides, "training.batch_size=2"))
    log_p = torch.log_softmax(components.trainer.model.head.bias, 0)
    words = components.corpus.vocabulary.tokens
    p = dict(zip(words, log_p.exp().tolist(), strict=True))
    assert p["absent"] == pytest.approx(0.5 / 200.5)
    assert p["a"] == pytest.approx(80 / 200.5)


def test_zeros_and_uniform() -> None:
    biases = {
        kind: setup_run(tiny_config(f"model.softmax_bias={kind}")).trainer.model.head.bias
        for kind in ("zeros", "uniform")
    }
    assert biases["zeros"].count_nonzero() == 0
    assert 0.09 < biases["uniform"].abs().max().item() <= 0.1


def test_weights_do_not_depend_on_the_bias() -> None:
    models = [
        setup_run(tiny_config(f"model.softmax_bias={kind}")).trainer.model.state_dict()
        for kind in ("uniform", "log_unigram")
    ]
    differing = [name for name in models[0] if not torch.equal(models[0][name], models[1][name])]
    assert differing == ["head.bias"]


def test_penn_treebank_starts_at_the_unigram_perplexity(ptb_directory: Path) -> None:
    """Without word frequencies, the perplexity of the first step would be 10,000."""
    overrides = [f"data.path={ptb_directory}", "model.softmax_bias=log_unigram"]
    overrides += ["model.hidden_size=8", "model.init_scale=0.05"]
    components = setup_run(load_config("medium", overrides))
    counts = Counter(components.corpus.splits["train"].ids.tolist())
    tokens = sum(counts.values())
    entropy = -sum(n / tokens * math.log(n / tokens) for n in counts.values())
    targets = components.trainer.epoch_text[0].targets.flatten().tolist()
    expected = -sum(math.log(counts[i] / tokens) for i in targets) / len(targets)
    record = next(components.trainer.records())
    assert isinstance(record, StepDone)
    first = record.nll / record.tokens
    print(f"\nperplexity {math.exp(first):.1f} in step 1, {math.exp(entropy):.1f} of the split")
    assert 650 < math.exp(entropy) < 700
    assert first == pytest.approx(expected, abs=0.005)
