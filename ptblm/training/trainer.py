"""The training loop: steps, validation after each epoch, and a test at the end.

The trainer yields records and does not depend on files, progress bars or signals. It can be stopped
between any two records. `state_dict` returns everything that another trainer needs to continue.

Shapes: B batch, T time.
"""

import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ptblm.backend.distributed import ONE_PROCESS, World
from ptblm.backend.precision import Precision
from ptblm.backend.randomness import StepGenerator, derive_seed
from ptblm.config.training import TrainingConfig
from ptblm.corpus.batches import Batches
from ptblm.corpus.layout import Split
from ptblm.corpus.vocabulary import Ids
from ptblm.errors import DivergedError
from ptblm.evaluation.score import Score, perplexity
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import HiddenState, detach
from ptblm.training.averaging import WeightAverages
from ptblm.training.cuda_graph import Capture, capture_step, steps_until_sync
from ptblm.training.divergence import divergence_metrics
from ptblm.training.evaluation import evaluate, evaluation_texts
from ptblm.training.optimizer import make_optimizer
from ptblm.training.records import EpochDone, Record, RunDone, StepDone
from ptblm.training.regularizers import regularizers
from ptblm.training.saved_state import restore_trainer, trainer_state
from ptblm.training.schedule import has_stopped_improving, learning_rate, scheduled_momentum
from ptblm.training.state import TrainState
from ptblm.training.step import StepParts, reset_streams, train_step
from ptblm.training.training_text import EpochText, TrainingText


class Trainer:
    """Trains a model.

    Args:
        model: the model with its initial weights, on its device.
        config: the training config.
        precision: precision and device of the run.
        train: batches to train on.
        valid: token ids to validate on after every epoch, [N].
        test: token ids to test on at the end, [N]; None for no test.
        special_ids: ids of the special tokens that are also scored separately, by token.
        log_every: steps between two logged records.
        sync_at: other steps after which a record is needed.
        capture: captures steps as graphs; None for eager steps only.
        world: the processes of the run, of which each trains some streams of the batches.

    Attributes:
        train_state: progress of the run.
        hidden_state: the hidden state of the streams of this process after the last step.
        rows: the streams of this process.
        averages: the averages of the weights.
        training_text: the batches of each epoch.
        evaluation_texts: ids and number of streams of each split to evaluate on.

    Raises:
        DataError: if valid or test has fewer than two tokens.
        torch.OutOfMemoryError: if a step does not fit into the memory of a CUDA device.
    """

    def __init__(
        self,
        model: LanguageModel,
        config: TrainingConfig,
        precision: Precision,
        *,
        train: Batches,
        valid: Ids,
        test: Ids | None,
        special_ids: Mapping[str, int] | None = None,
        log_every: int = 100,
        sync_at: Sequence[int] = (),
        capture: Capture | None = None,
        world: World = ONE_PROCESS,
    ) -> None:
        self.model = model
        self.config = config
        self.precision = precision
        self.world, self.rows = world, world.rows(config.batch_size)
        self.log_every, self.sync_at = log_every, sync_at
        self.optimizer = make_optimizer(model.trainable_parameters(), config)
        self.averages = WeightAverages(model, config.average)
        on_cpu = precision.device.type == "cpu" and capture is None
        model.embedding.sparse = self.optimizer.accepts_sparse and on_cpu and not model.is_tied
        gathers = (
            world.size > 1
            and not model.is_tied
            and (model.embedding.sparse or config.batch_size * config.num_steps < model.vocab_size)
        )
        model.embedding.gather = self._gather_batch if gathers else None
        model.loss_terms = regularizers(config)
        device, norm = precision.device, config.max_grad_norm
        self.training_text = TrainingText(train, config, device, self.rows)
        self.evaluation_texts = evaluation_texts(valid, test, config, device)
        self.special_ids = special_ids or {}
        self.train_state = TrainState()
        self.hidden_state = detach(self._initial_state())
        self.global_hidden_state: tuple[int, list[list[Tensor]]] = (-1, [])  # see `collect_state`
        generator, other = (StepGenerator(device, config.batch_size, self.rows) for _ in range(2))
        self.parts = StepParts(model, self.optimizer, precision, norm, generator, world)
        self.step = partial(train_step, self.parts)
        self.graphed_step = None
        if capture is not None:
            parts = self.parts._replace(generator=other)  # a failed capture makes it unusable
            self.graphed_step = capture_step(parts, self.epoch_text[0], self.hidden_state, capture)

    def records(self) -> Iterator[Record]:
        """Trains from `train_state` to the end of the run. Only process 0 computes the test."""
        while not self.is_trained:
            while self.train_state.batch < len(self.epoch_text):
                yield self._train()
            yield from self._finish_epoch()
        has_test = "test" in self.evaluation_texts and self.world.is_main
        test = (yield from self.evaluate("test")) if has_test else None
        yield RunDone(self.train_state.step, test)

    @property
    def epoch_text(self) -> EpochText:
        """The batches of the current epoch."""
        return self.training_text.epoch(self.train_state.epoch)

    @property
    def is_trained(self) -> bool:
        """Whether all epochs are completed, or early stopping has ended training."""
        state, patience = self.train_state, self.config.early_stopping.patience
        stops_early = has_stopped_improving(state.valid_perplexities, patience)
        return state.epoch >= self.config.epochs or (stops_early and state.batch == 0)

    def _train(self) -> StepDone:
        """Runs one step, or several graphed steps whose metrics are read together.

        Raises:
            DivergedError: if a loss or a gradient norm is not finite. Eager steps leave the weights
                unchanged. After graphed steps, `check_finite` prevents saving the weights.
        """
        start = time.perf_counter()
        state, config, text = self.train_state, self.config, self.epoch_text
        # The initial state is recomputed in each epoch, because a learned state has a gradient.
        hidden_state = self.hidden_state if state.batch else self._initial_state()
        step, count = self._next_steps(hidden_state)
        outputs = []
        for ahead in range(count):
            self._set_momentum(ahead)
            if config.drop_state:
                hidden_state = self._drop_state(hidden_state, state.step + ahead)
            output = step(
                text[state.batch + ahead],
                hidden_state,
                learning_rate=self.next_learning_rate(ahead),
                seed=derive_seed(config.seed, "dropout", state.step + ahead),
            )
            outputs.append(output.metrics)
            hidden_state = output.hidden_state
            self._add_to_averages(output.metrics, ahead)
        for nll, grad_norm in torch.stack(outputs).tolist():
            tokens = text.count_targets(state.batch + 1) - state.tokens
            skipped = self.precision.scaler is not None and not math.isfinite(grad_norm)
            if not math.isfinite(nll) or not (math.isfinite(grad_norm) or self._backs_off()):
                raise DivergedError(divergence_metrics(self, nll / tokens, grad_norm))
            state.batch += 1
            state.step += 1
            state.nll += nll
            state.tokens += tokens
        self.hidden_state = hidden_state
        state.seconds += time.perf_counter() - start
        return StepDone(
            epoch=state.epoch + 1,
            batch=state.batch,
            batches=len(text),
            step=state.step,
            learning_rate=self.next_learning_rate(-1),
            nll=nll,
            tokens=tokens,
            grad_norm=None if skipped else grad_norm,
            epoch_nll=state.nll,
            epoch_tokens=state.tokens,
            epoch_seconds=state.seconds,
        )

    def _drop_state(self, hidden_state: HiddenState, step: int) -> HiddenState:
        rate, seed = self.config.drop_state, derive_seed(self.config.seed, "drop state", step)
        args = hidden_state, self._initial_state(), rate, seed
        return reset_streams(*args, batch_size=self.config.batch_size, rows=self.rows)

    def _set_momentum(self, ahead: int) -> None:
        momentum = scheduled_momentum(self.config, **self._place(ahead))
        if momentum is not None:
            self.optimizer.set_momentum(momentum)

    def _add_to_averages(self, metrics: Tensor, ahead: int) -> None:
        """Adds the weights after a step, unless fp16 overflowed and the update was skipped."""
        was_updated = self.precision.scaler is None or bool(metrics.isfinite().all())
        if was_updated:
            state = self.train_state
            epochs = state.epoch + (state.batch + ahead) / len(self.epoch_text)
            self.averages.add(self.model, epochs, state.valid_perplexities)

    def _next_steps(self, hidden_state: HiddenState) -> tuple[Any, int]:
        """Returns the function that runs the next steps, and the number of steps."""
        # The gradient of a learned initial state is not part of the captured step.
        has_gradient = any(part.requires_grad for layer in hidden_state for part in layer)
        if self.graphed_step is None or has_gradient:
            return self.step, 1
        state, left = self.train_state, len(self.epoch_text) - self.train_state.batch
        return self.graphed_step, steps_until_sync(state.step, left, self.log_every, self.sync_at)

    def _backs_off(self) -> bool:
        """Returns whether the loss scaler handled the overflow by lowering the scale."""
        return self.precision.scaler is not None and not self.precision.scaler.has_failed

    def _finish_epoch(self) -> Iterator[Record]:
        """Validates the model and moves to the start of the next epoch."""
        valid = yield from self._validate()
        state = self.train_state
        if not math.isfinite(valid.perplexity):
            metrics = divergence_metrics(self, valid.nats, math.nan) | {"step": state.step}
            raise DivergedError(metrics, f"loss {valid.nats:.4g} per token in validation")
        done = EpochDone(
            epoch=state.epoch + 1,
            step=state.step,
            learning_rate=self.next_learning_rate(),
            train_perplexity=perplexity(state.nll, state.tokens),
            valid_perplexity=valid.perplexity,
            seconds=state.seconds,
            tokens_per_second=state.tokens / max(state.seconds, 1e-9),
            best=valid.perplexity < min(state.valid_perplexities, default=math.inf),
            averaged=self.averages.counts().get("average", 0),
        )
        history = [*state.history, done]
        self.train_state = TrainState(epoch=state.epoch + 1, step=state.step, history=history)
        self.hidden_state = detach(self._initial_state())
        yield done

    def next_learning_rate(self, ahead: int = 0) -> float:
        """Returns the learning rate `ahead` steps after the next step, within the epoch."""
        state, place = self.train_state, self._place(ahead)
        step = state.step - state.batch + place["batch"]
        return learning_rate(self.config, **place, step=step, valid=state.valid_perplexities)

    def _place(self, ahead: int) -> dict[str, int]:
        state, batches = self.train_state, len(self.epoch_text)
        batch = min(state.batch + ahead, batches - 1)
        return {"epoch": state.epoch, "batch": batch, "batches": batches}

    def _initial_state(self) -> HiddenState:
        return self.model.initial_state(self.rows.stop - self.rows.start)

    def _gather_batch(self, rows: Tensor) -> Tensor:
        """Returns the rows of the global batch, given those of this process, [T, b, ...]."""
        return self.world.gather_rows(rows, self.config.batch_size, dim=1)

    def evaluate(
        self, split: Split, model: LanguageModel | None = None, *, of_best: bool = False
    ) -> Generator[Record, None, Score]:
        """Yields progress and returns the score of a split.

        Args:
            split: the split.
            model: the model; None for that of the run: its average, once it exists.
            of_best: whether the model is that of the best epoch.
        """
        average, text = self.averages.evaluated, self.evaluation_texts[split]
        model = model or (self.model if average is None else average.model)
        args = model, split, text, self.special_ids, self.precision
        world = self.world if split == "valid" else ONE_PROCESS
        return evaluate(*args, of_best=of_best, world=world)

    def _validate(self) -> Generator[Record, None, Score]:
        """Yields progress and returns the score of the valid split; adapts two-tailed averages."""
        valid = yield from self.evaluate("valid")
        if (short := self.averages.short) is not None:
            short_valid = yield from self.evaluate("valid", short.model)
            # Changes the averages after the last record: a run that stops repeats the validation.
            if short_valid.nats <= valid.nats:
                self.averages.switch()
                return short_valid
        return valid

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that is required to continue the run; see `trainer_state`."""
        return trainer_state(self)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restores the state that `state_dict` of another trainer returned.

        Raises:
            StructureMismatchError: if the state does not match this trainer.
        """
        restore_trainer(self, saved)
