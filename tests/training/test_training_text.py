"""The batches of each epoch: fixed, rotated, and of random length."""

import copy
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from ptblm.backend.randomness import derive_seed
from ptblm.config.training import TrainingConfig
from ptblm.corpus.batches import batchify, random_bounds
from ptblm.model.layers.recurrent import HiddenState
from ptblm.training.records import StepDone
from ptblm.training.step import Batch, reset_streams
from ptblm.training.training_text import EpochText, TrainingText
from tests.training.small_trainer import assert_same_state, make_trainer, weights
from tests.training.test_exact_resume import assert_resume_is_exact

CPU = torch.device("cpu")
LINEAR = {"type": "linear", "flat": 0.0}
TOKENS, STREAMS, STEPS = 1000, 4, 7  # streams of 250 tokens, 35 batches of 7 targets


def make_text(**changes: object) -> TrainingText:
    settings = {"batch_size": STREAMS, "num_steps": STEPS, **changes}
    config = TrainingConfig.model_validate(settings)
    ids = np.arange(TOKENS, dtype=np.uint16)  # all tokens differ
    return TrainingText(batchify(ids, STREAMS, STEPS, "train"), config, CPU)


def all_targets(text: EpochText) -> torch.Tensor:
    return torch.cat([text[index].targets for index in range(len(text))], dim=1)


def all_inputs(text: EpochText) -> torch.Tensor:
    return torch.cat([text[index].inputs for index in range(len(text))], dim=1)


def test_fixed_streams_are_those_of_the_tutorial() -> None:
    text = make_text()
    expected = np.arange(TOKENS).reshape(STREAMS, -1)[:, : 35 * STEPS + 1]
    for epoch in (0, 1):
        assert np.array_equal(all_inputs(text.epoch(epoch)), expected[:, :-1])
        assert np.array_equal(all_targets(text.epoch(epoch)), expected[:, 1:])


def test_rotation_uses_each_token_once_with_one_false_join() -> None:
    text = make_text(streams="rotated").epoch(3)
    targets, inputs = all_targets(text).numpy(), all_inputs(text).numpy()
    assert Counter(targets.flatten().tolist()).most_common(1)[0][1] == 1
    rows = np.arange(STREAMS)[:, None]
    assert np.array_equal(targets // 250, rows.repeat(targets.shape[1], axis=1))
    joins = (targets != inputs + 1).sum(axis=1)
    assert joins.max() <= 1
    assert np.array_equal(inputs[:, 1:], targets[:, :-1])


def test_rotation_does_not_copy_the_text() -> None:
    ids = np.arange(TOKENS, dtype=np.uint16)
    config = TrainingConfig(batch_size=STREAMS, num_steps=STEPS, streams="rotated")
    text = TrainingText(batchify(ids, STREAMS, STEPS, "train"), config, CPU)
    for epoch in (0, 1):
        assert text.epoch(epoch).streams.data_ptr() == ids.ctypes.data


def test_rotation_differs_between_epochs_rows_and_seeds() -> None:
    starts = {
        (seed, epoch): all_inputs(make_text(streams="rotated", seed=seed).epoch(epoch))[:, 0]
        for seed in (1, 2)
        for epoch in (0, 1)
    }
    columns = {tuple((start % 250).tolist()) for start in starts.values()}
    assert len(columns) == 4
    assert all(len(set(column)) > 1 for column in columns)
    again = all_inputs(make_text(streams="rotated", seed=2).epoch(1))[:, 0]
    assert torch.equal(again, starts[2, 1])


def test_windows_of_random_length_use_every_target_once() -> None:
    text = make_text(random_num_steps=True)
    for epoch in (0, 1):
        targets = all_targets(text.epoch(epoch)).numpy()
        expected = np.arange(TOKENS).reshape(STREAMS, -1)[:, 1:]
        assert np.array_equal(targets, expected)
        assert text.epoch(epoch).count_targets(len(text.epoch(epoch))) == expected.size
    assert list(text.epoch(0).bounds) != list(text.epoch(1).bounds)
    assert text.count_batches(2) == len(text.epoch(0)) + len(text.epoch(1))


def test_random_lengths_have_the_published_distribution() -> None:
    """Mean 0.95 * 70 + 0.05 * 35, less 0.5 for rounding down; standard error 0.09."""
    lengths = np.diff(random_bounds(10**6, 70, seed=1))[:-1]
    assert len(lengths) > 10_000
    assert lengths.mean() == pytest.approx(67.75, abs=0.4)
    assert (lengths < 52).mean() == pytest.approx(0.05, abs=0.01)
    assert lengths[lengths > 52].std() == pytest.approx(5, abs=0.2)
    assert np.diff(random_bounds(10**4, 3, seed=1))[:-1].min() == 5


@pytest.mark.parametrize(
    "options",
    [
        {"streams": "rotated"},
        {"drop_state": 0.3},
        {"random_num_steps": True},
        {"streams": "rotated", "drop_state": 0.3, "random_num_steps": True},
    ],
    ids=["rotated", "drop_state", "random_num_steps", "all"],
)
def test_resume_is_bit_exact_with_each_option(options: dict[str, Any]) -> None:
    assert_resume_is_exact(options)


def test_options_that_are_off_change_nothing() -> None:
    trained = [make_trainer(), make_trainer(streams="fixed", drop_state=0.0)]
    for trainer in trained:
        list(trainer.records())
    assert_same_state(*trained)


@pytest.mark.parametrize("option", [{"streams": "rotated"}, {"drop_state": 0.5}])
def test_each_option_changes_training(option: dict[str, Any]) -> None:
    plain, other = make_trainer(), make_trainer(**option)
    for trainer in (plain, other):
        list(trainer.records())
    assert not torch.equal(weights(plain)["head.weight"], weights(other)["head.weight"])


def test_streams_are_reset_with_the_given_probability() -> None:
    state = ((torch.ones(1000, 3), torch.full((1000, 2), 2.0)),)
    initial = ((torch.zeros(1000, 3), torch.full((1000, 2), 5.0)),)
    ((h, c),) = reset_streams(state, initial, 0.25, seed=1)
    is_reset = h[:, 0] == 0
    assert is_reset.float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert torch.equal(h, torch.where(is_reset[:, None], 0.0, 1.0).expand(1000, 3))
    assert torch.equal(c, torch.where(is_reset[:, None], 5.0, 2.0).expand(1000, 2))


def test_resets_differ_between_steps_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream with a state of zeros was reset, unless it is at the start of an epoch."""

    def resets(seed: int) -> list[tuple[bool, ...]]:
        trainer, seen = make_trainer(seed, drop_state=0.5), []
        step = trainer.step

        def spy(batch: Batch, hidden_state: HiddenState, **settings: Any) -> Any:
            seen.append(tuple((hidden_state[0][0] == 0).all(dim=1).tolist()))
            return step(batch, hidden_state, **settings)

        monkeypatch.setattr(trainer, "step", spy)
        list(trainer.records())
        return seen

    first, second = resets(5), resets(6)
    assert first == resets(5)
    inside = [index for index in range(24) if index % 8]
    of_first, of_second = ([seen[index] for index in inside] for seen in (first, second))
    assert of_first != of_second
    assert len(set(of_first)) > 4  # of the eight subsets of three streams
    assert len(set(of_second)) > 4


def test_reset_of_a_matrix_per_stream() -> None:
    """A custom cell can have such a state; here with as many rows as streams."""
    state, initial = torch.ones(3, 3, 2), torch.zeros(3, 3, 2)
    ((part,),) = reset_streams(((state,),), ((initial,),), 0.5, seed=1)
    is_reset = (part == 0).flatten(1)
    assert torch.equal(is_reset.all(1), is_reset.any(1))
    assert 0 < is_reset.all(1).sum() < 3


def test_state_without_a_reset_is_returned_unchanged() -> None:
    state = ((torch.ones(2, 3),),)
    assert reset_streams(state, ((torch.zeros(2, 3),),), 1e-9, seed=1) is state


def test_learned_initial_state_is_used_in_resets() -> None:
    trainer = make_trainer(cell={"initial_state": "learned"}, drop_state=0.9)
    with torch.no_grad():
        for layer in trainer.model.recurrent.layers:
            for part in layer.learned_state:
                part.fill_(0.25)
    hidden_state, initial = trainer.hidden_state, trainer.model.initial_state(3)
    ((h, _), _) = reset_streams(hidden_state, initial, 0.9, derive_seed(5, "drop state", 1))
    assert (h == 0.25).all(dim=1).any()
    list(trainer.records())


def test_warm_up_and_schedule_follow_the_steps_of_each_epoch() -> None:
    """Warm-up counts updates; the schedule, the completed share of epochs."""
    trainer = make_trainer(
        random_num_steps=True, num_steps=7, warmup_steps=9, learning_rate=0.5, schedule=LINEAR
    )
    steps = [record for record in trainer.records() if isinstance(record, StepDone)]
    assert len({record.batches for record in steps}) > 1
    for count, record in enumerate(steps, start=1):
        assert record.step == count
        progress = (record.epoch - 1 + (record.batch - 1) / record.batches) / 3
        expected = 0.5 * (1 - progress) * min(1, count / 9)
        assert record.learning_rate == pytest.approx(expected)
    targets = {record.epoch_tokens for record in steps if record.batch == record.batches}
    assert targets == {3 * 32}


def test_rate_times_length_of_the_mean_loss_is_one_rate_of_the_sum() -> None:
    """AWD-LSTM scales the rate by length / num_steps; for the summed loss the rate is constant.

    One step of SGD on a batch of s of T steps. The rate of the mean loss is that of T steps,
    r * T, times s / T.
    """
    trainer = make_trainer(
        cell={"dropout": 0.0}, random_num_steps=True, max_grad_norm=1e9, schedule="constant"
    )
    model = copy.deepcopy(trainer.model)
    record = next(trainer.records())
    assert isinstance(record, StepDone)
    batch = trainer.epoch_text[0]
    length, num_steps = batch.targets.shape[1], trainer.config.num_steps
    assert length != num_steps
    features, _ = model.features(batch.inputs, model.initial_state(3))
    log_probs = model.head.log_probs(features.flatten(0, 1))  # of [T, B] tokens
    torch.nn.functional.nll_loss(log_probs, batch.targets.t().flatten()).backward()
    rate_of_mean = trainer.config.learning_rate * num_steps * length / num_steps
    trained = dict(trainer.model.named_parameters())
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        assert gradient is not None
        dense = gradient.to_dense() if gradient.is_sparse else gradient
        expected = parameter.detach() - rate_of_mean * dense
        torch.testing.assert_close(trained[name].detach(), expected, atol=1e-6, rtol=1e-4, msg=name)
