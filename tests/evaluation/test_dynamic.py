"""Dynamic evaluation equals the formula of Krause et al. (2018), written as plain loops."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ptblm.config.evaluation import DynamicSettings, EvaluationSettings
from ptblm.corpus.batches import batchify
from ptblm.corpus.lines import Line
from ptblm.errors import DataError
from ptblm.evaluation.line_scores import score_lines
from ptblm.evaluation.scorers.dynamic import AdaptiveModel, gradient_rms
from ptblm.evaluation.scorers.pipeline import Pipeline
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import detach
from tests.evaluation.small_models import log_probs_of, random_ids, small_model

pytestmark = pytest.mark.usefixtures("one_thread")


def mean_loss_gradients(
    model: LanguageModel, inputs: Tensor, targets: Tensor, state: Any
) -> tuple[dict[str, Tensor], Any]:
    """Gradients of the mean -log p by torch, of the head's probabilities instead of its loss."""
    model.zero_grad()
    features, state = model.features(inputs, state)
    log_probs = model.head.log_probs(features.flatten(0, 1))
    loss = -log_probs.gather(1, targets.t().flatten()[:, None]).mean()
    loss.backward()
    grads = {
        n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()
    }
    return {name: grad.clone() for name, grad in grads.items()}, detach(state)


def reference_rms(model: LanguageModel, ids: Tensor, length: int) -> dict[str, Tensor]:
    streams = min(100, len(ids) // (length + 1))
    batches = batchify(ids.numpy(), streams, length, "train")
    state, squares = detach(model.initial_state(streams)), []
    for step in range(len(batches)):
        inputs, targets = (torch.from_numpy(part) for part in batches[step])
        gradients, state = mean_loss_gradients(model, inputs, targets, state)
        squares.append({name: grad**2 for name, grad in gradients.items()})
    return {n: torch.stack([each[n] for each in squares]).mean(0).sqrt() for n in squares[0]}


@pytest.mark.parametrize("cell", ["lstm", "gru", "mogrifier"])
@pytest.mark.parametrize("length", [1, 5])
def test_gradient_rms_equals_a_loop_over_batches(cell: str, length: int) -> None:
    model, ids = small_model(cell=cell), random_ids(700)
    expected = reference_rms(small_model(cell=cell), ids, length)
    found = gradient_rms(model, ids.numpy(), length)
    assert len(found) == len(expected)
    for rms, reference in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(rms, reference)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_gradient_rms_of_long_segments_is_summed_over_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In groups of two, two and one of the five streams."""
    monkeypatch.setattr("ptblm.evaluation.scorers.dynamic._MAX_TOKENS", 100)
    ids = random_ids(250)
    expected = reference_rms(small_model(), ids, 40)
    found = gradient_rms(small_model(), ids.numpy(), 40)
    for rms, reference in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(rms, reference)


def test_short_training_text_has_fewer_streams() -> None:
    model = small_model()
    for tokens in (2, 3, 7, 11):
        assert all(
            rms.isfinite().all() for rms in gradient_rms(model, random_ids(tokens).numpy(), 5)
        )
    with pytest.raises(DataError, match="train split"):
        gradient_rms(model, random_ids(1).numpy(), 5)


def reference_log_probs(
    ids: Tensor, settings: DynamicSettings, rms: dict[str, Tensor], **options: Any
) -> Tensor:
    """Scores each segment, then updates every weight by the formula."""
    model = small_model(**options)
    trained = {name: p.detach().clone() for name, p in model.named_parameters()}
    means = [float(each.mean()) for name, each in rms.items() if "learned_state" not in name]
    mean_rms = sum(means) / len(means)
    state, rows = detach(model.initial_state(1)), []
    length = settings.segment_length
    for start in range(0, len(ids) - 1, length):
        inputs = ids[None, start : start + length][:, : len(ids) - 1 - start]
        targets = ids[None, start + 1 : start + length + 1]
        with torch.no_grad():
            features, _ = model.features(inputs, state)
            rows.append(model.head.log_probs(features[:, 0]))
        gradients, state = mean_loss_gradients(model, inputs, targets, state)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                decay = (settings.decay * rms[name] / mean_rms).clamp(max=1)
                step = settings.learning_rate * gradients[name] / (rms[name] + settings.epsilon)
                weight.add_(decay * (trained[name] - weight) - step)
    return torch.cat(rows)


@pytest.mark.parametrize("length", [1, 5, 20])
@pytest.mark.parametrize("decay", [0.0, 0.05, 10.0])  # 10 is clipped to 1 for most weights
def test_weights_follow_the_formula(length: int, decay: float) -> None:
    ids, rms = random_ids(50), reference_rms(small_model(), random_ids(300, seed=2), 5)
    settings = DynamicSettings(
        learning_rate=0.01, decay=decay, epsilon=0.001, segment_length=length
    )
    expected = reference_log_probs(ids, settings, rms)
    found = log_probs_of(
        [small_model()], ids, dynamic=settings.model_dump(), rms=[list(rms.values())]
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    static = log_probs_of([small_model()], ids)
    assert torch.equal(found[:1], static[:1])  # the first segment is scored with trained weights
    assert not torch.allclose(found[length:], static[length:])


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
@pytest.mark.parametrize("stage", [{}, {"monte_carlo": {"samples": 1}}, {"cache": {"window": 4}}])
def test_segments_longer_than_a_chunk(
    chunk: int, stage: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory limits the chunks that are scored, and masks their length, but not the segments."""
    ids, model = random_ids(60), small_model(dropout={"output": 0.5, "locked": True})
    dynamic = {"rule": "sgd", "learning_rate": 0.5, "segment_length": 20}
    if not stage:
        settings = DynamicSettings.model_validate(dynamic)
        ones = {name: weight.new_ones(()) for name, weight in model.named_parameters()}
        expected = reference_log_probs(ids, settings, ones)
    else:
        expected = log_probs_of([model], ids, chunk, dynamic=dynamic, **stage)
    name = "ptblm.evaluation.scorers.pipeline.default_chunk_steps"
    monkeypatch.setattr(name, lambda _: chunk)
    found = log_probs_of([model], ids, dynamic=dynamic, **stage)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_segments_do_not_end_with_lines() -> None:
    """Lines that are scored one by one, and lines that are not, have the same scores."""
    ids, model = random_ids(61), small_model()
    dynamic = {"rule": "sgd", "learning_rate": 0.5, "segment_length": 7}
    settings = EvaluationSettings.model_validate({"dynamic": dynamic})
    parts = [part.numpy() for part in ids.split(4)]
    lines = [Line(1, "a", ["a"] * (len(each) - 1), each, each < 0) for each in parts]
    pipeline = Pipeline([model], settings, 35)
    expected = -log_probs_of([model], ids, dynamic=dynamic).gather(1, ids[1:, None])[:, 0]
    for eager in (True, False):
        scored = score_lines(model, lines, "stream", 0, pipeline=pipeline, eager=eager)
        found = np.concatenate([each.scores.nll for each in scored])
        np.testing.assert_allclose(found[1:], expected, rtol=1e-6)


def test_one_update_by_rule_sgd() -> None:
    """The rate of every weight is learning_rate / (1 + epsilon), and its decay is the same."""
    model, ids = small_model(), random_ids(6)
    settings = DynamicSettings(rule="sgd", learning_rate=0.5, decay=0.1, epsilon=0.25)
    adaptive = AdaptiveModel(model, settings, None)
    gradients, _ = mean_loss_gradients(
        small_model(), ids[None, :-1], ids[None, 1:], model.initial_state(1)
    )
    adaptive.adapt(ids[:-1], ids[1:])
    for name, weight in adaptive.model.named_parameters():
        expected = model.get_parameter(name) - 0.5 / 1.25 * gradients[name]
        torch.testing.assert_close(weight, expected)
    moved = {name: weight.detach().clone() for name, weight in adaptive.model.named_parameters()}
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    ones = torch.ones(1, dtype=torch.long)
    zero = AdaptiveModel(model, settings.model_copy(update={"learning_rate": 1e-300}), None)
    with torch.no_grad():
        for name, weight in zero.model.named_parameters():
            weight.copy_(moved[name])
    zero.adapt(ones, ones)  # only the decay moves the weights
    for name, weight in zero.model.named_parameters():
        torch.testing.assert_close(weight, moved[name] + 0.1 * (before[name] - moved[name]))


@pytest.mark.parametrize(
    "options",
    [
        {"initial_state": "learned"},
        {"cell": "rnn"},
        {"num_layers": 1},
        {"dropout": 0.9},
        {"dropout": {"recurrent_weights": 0.5, "embedding": 0.5}},
        {"tie_embeddings": True, "sum_layers": True},
        {"output_projection": 3},
    ],
)
def test_all_models_adapt_without_dropout(options: dict[str, Any]) -> None:
    ids = random_ids(41)
    rms = reference_rms(small_model(**options), random_ids(300, seed=2), 5)
    settings = DynamicSettings(learning_rate=0.01, decay=0.01)
    expected = reference_log_probs(ids, settings, rms, **options)
    model = small_model(**options)
    statistics = [gradient_rms(model, random_ids(300, seed=2).numpy(), 5)]
    found = log_probs_of([model], ids, dynamic=settings.model_dump(), rms=statistics)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


def test_repeated_text_becomes_more_probable() -> None:
    ids = random_ids(12).repeat(60)
    dynamic = {"rule": "sgd", "learning_rate": 0.5, "decay": 0.0}
    found = log_probs_of([small_model(hidden_size=16)], ids, dynamic=dynamic)
    nll = -found.gather(1, ids[1:, None])[:, 0]
    assert nll[-12:].mean() < 0.5 * nll[:12].mean()


def test_members_of_an_ensemble_adapt_alone() -> None:
    ids = random_ids()
    dynamic = {"rule": "sgd", "learning_rate": 0.3, "decay": 0.01}
    each = [log_probs_of([small_model(seed)], ids, dynamic=dynamic).exp() for seed in (0, 1)]
    found = log_probs_of([small_model(0), small_model(1)], ids, dynamic=dynamic).exp()
    torch.testing.assert_close(found, (each[0] + each[1]) / 2)
