"""The loop: epochs of steps, a validation after each, the test at the end.

The trainer yields records and knows nothing of files, bars or signals. Between any two records
it can be abandoned, and `state_dict` says all that a later one needs to go on from there.
"""

import math
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from ptblm.backend.precision import Precision
from ptblm.backend.randomness import derive_seed
from ptblm.checkpoint.structure import StructureMismatchError, check_structure
from ptblm.config.training import TrainingConfig
from ptblm.corpus.batches import Batches
from ptblm.corpus.splits import Split
from ptblm.errors import DivergedError
from ptblm.evaluation.score import Score, perplexity
from ptblm.evaluation.scorer import on_device, running_scores
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import State, detach_state
from ptblm.training.cuda_graph import Capture
from ptblm.training.optimizer import make_optimizer, state_tensors
from ptblm.training.records import EpochDone, Evaluating, Record, RunDone, StepDone
from ptblm.training.schedule import learning_rate
from ptblm.training.state import TrainState
from ptblm.training.step import NotFiniteError
from ptblm.training.stepper import StepInputs, Stepper, steps_until_sync

_SOME_EPOCH = EpochDone(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, best=False)


class Trainer:
    """Trains a model.

    Args:
        model: with its initial weights, on its device.
        config: the optimization.
        precision: device and precision.
        train: batches to train on.
        valid: batches to validate on after every epoch.
        test: the test split as one stream.
        marks: ids whose share of a score is kept apart.
        fused: whether to use fused kernels.
        log_every: steps between two records that are logged.
        capture: makes graphs of steps; None for a device that has none.

    Raises:
        torch.OutOfMemoryError: if a step does not fit into a CUDA device.
    """

    def __init__(
        self,
        model: LanguageModel,
        config: TrainingConfig,
        precision: Precision,
        *,
        train: Batches,
        valid: Batches,
        test: Batches,
        marks: Mapping[str, int] | None = None,
        capture: Capture | None = None,
        fused: bool = True,
        log_every: int = 100,
    ) -> None:
        self.model = model
        self.config = config
        self.log_every = log_every
        self.precision = precision
        self.optimizer = make_optimizer(model.trainable_parameters(), config)
        # A step sees 400 of 10,000 words; the zeros of all others are 2 % of it at small, and 60 MB
        # at large. (On a GPU they cost nothing, and finding out which words these are would.)
        model.embedding.sparse = (
            config.optimizer.type == "sgd"
            and fused
            and precision.device.type == "cpu"
            and capture is None
        )
        self.batches = train
        self.train_text = on_device(train, precision.device)
        self.evaluation_texts: dict[Split, tuple[Tensor, Tensor]] = {
            "valid": on_device(valid, precision.device),
            "test": on_device(test, precision.device),
        }
        self.marks = marks or {}
        self.position = TrainState()
        self.state = self._start_state()
        self.stepper = Stepper(model, self.optimizer, precision, config, fused=fused)
        if capture is not None:
            self.stepper.capture(*self._batch(0), self.state, capture)

    def records(self) -> Iterator[Record]:
        """Trains from where `position` is to the end."""
        while self.position.epoch < self.config.epochs:
            yield from self._train_epoch()
            yield from self._finish_epoch()
        score = yield from self._evaluate("test")
        yield RunDone(self.position.step, score)

    def _train_epoch(self) -> Iterator[StepDone]:
        while self.position.batch < len(self.batches):
            yield self._train_block()

    def _train_block(self) -> StepDone:
        """Makes one step, or a block of captured ones.

        Raises:
            DivergedError: if a loss or a norm is not finite. The weights are as before, but for
                those of captured steps, which `refuse_divergence` keeps from being saved.
        """
        start = time.perf_counter()
        position, config = self.position, self.config
        # At an epoch's start anew, and not what was stored: a learned state wants its gradient.
        state = self.state if position.batch else self.model.initial_state(config.batch_size)
        tokens = config.batch_size * config.num_steps
        try:
            figures, self.state = self.stepper.make_steps(self._next_steps(), state)
        except NotFiniteError as seen:
            raise DivergedError(self._figures(seen.nll / tokens, seen.grad_norm)) from None
        for nll, grad_norm in figures:
            if not math.isfinite(nll + (grad_norm or 0.0)):
                raise DivergedError(self._figures(nll / tokens, grad_norm or 0.0))
            position.batch += 1
            position.step += 1
            position.nll += nll
            position.tokens += tokens
        position.seconds += time.perf_counter() - start
        return StepDone(
            epoch=position.epoch + 1,
            batch=position.batch,
            batches=len(self.batches),
            step=position.step,
            learning_rate=self._learning_rate(-1),
            nll=nll,
            tokens=tokens,
            grad_norm=grad_norm,
            epoch_nll=position.nll,
            epoch_tokens=position.tokens,
            epoch_seconds=position.seconds,
        )

    def _next_steps(self) -> Iterator[StepInputs]:
        """What there may be of steps before figures are read."""
        position, config = self.position, self.config
        left = len(self.batches) - position.batch
        for ahead in range(steps_until_sync(position.step, left, self.log_every)):
            inputs, targets = self._batch(position.batch + ahead)
            seed = derive_seed(config.seed, "dropout", position.step + ahead)
            yield StepInputs(inputs, targets, self._learning_rate(ahead), seed)

    def _batch(self, batch: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a batch, [B, T] each."""
        columns = self.batches.columns(batch)
        inputs, targets = (text[:, columns].int() for text in self.train_text)
        return inputs, targets

    def _finish_epoch(self) -> Iterator[Record]:
        """Validates, then moves to the start of the next epoch."""
        valid = yield from self._evaluate("valid")
        position = self.position
        if not math.isfinite(valid.perplexity):
            raise DivergedError(self._figures(valid.nats, math.nan))
        best_before = min((done.valid_perplexity for done in position.history), default=None)
        done = EpochDone(
            epoch=position.epoch + 1,
            step=position.step,
            learning_rate=self._learning_rate(),
            train_perplexity=perplexity(position.nll, position.tokens),
            valid_perplexity=valid.perplexity,
            seconds=position.seconds,
            tokens_per_second=position.tokens / max(position.seconds, 1e-9),
            best=best_before is None or valid.perplexity < best_before,
        )
        self.position = TrainState(
            epoch=position.epoch + 1, step=position.step, history=[*position.history, done]
        )
        self.state = self._start_state()
        yield done

    def _learning_rate(self, ahead: int = 0) -> float:
        """Of the next step, or one so far ahead of it; of the epoch's last if there is none."""
        position, batches = self.position, len(self.batches)
        return learning_rate(
            self.config,
            epoch=position.epoch,
            batch=min(position.batch + ahead, batches - 1),
            batches=batches,
            valid=[done.valid_perplexity for done in position.history],
        )

    def _start_state(self) -> State:
        return detach_state(self.model.initial_state(self.config.batch_size))

    def _evaluate(self, split: Split) -> Generator[Record, None, Score]:
        """Yields progress; its return value is the split's score."""
        inputs, targets = self.evaluation_texts[split]
        score = Score()
        self.model.eval()  # for dropout in a user's own cell; ours asks for a generator
        with self.precision.exact():
            for score in running_scores(self.model, inputs, targets, marks=self.marks):
                yield Evaluating(split, score, inputs.numel())
        self.model.train()
        return score

    def refuse_divergence(self) -> None:
        """Looks at all weights and averages; what is not finite must not be saved over what is.

        Raises:
            DivergedError: if one is not.
        """
        tensors = [*self.optimizer.parameters, *state_tensors(self.optimizer)]
        if not all(bool(tensor.isfinite().all()) for tensor in tensors):
            raise DivergedError(self._figures(math.nan, math.nan))

    def _figures(self, nll: float, grad_norm: float) -> dict[str, float]:
        """What there is to say of a divergence here: nats per token, norm, place and rate."""
        return {
            "epoch": self.position.epoch + 1,
            "batch": min(self.position.batch + 1, len(self.batches)),
            "step": self.position.step + 1,
            "nll": nll,
            "grad_norm": grad_norm,
            "learning_rate": self._learning_rate(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimizer, carried state and position, as tensors and plain values."""
        scaler = self.precision.scaler
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss_scaler": {} if scaler is None else scaler.state_dict(),
            "state": [list(layer) for layer in self.state],
            "position": asdict(self.position),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Goes to where another trainer's `state_dict` was taken.

        Raises:
            StructureMismatchError: if anything in it is missing, unknown, or unlike this
                trainer's own; the trainer is unchanged.
        """
        check_structure(self.state_dict(), saved, varying={"position.history"})
        history = saved["position"]["history"]
        for number, done in enumerate(history):
            check_structure(asdict(_SOME_EPOCH), done, f"position.history.{number}")
        position = TrainState(
            **{**saved["position"], "history": [EpochDone(**done) for done in history]}
        )
        steps = position.epoch * len(self.batches) + position.batch
        tokens = position.batch * self.config.batch_size * self.config.num_steps
        whole = (
            position.epoch == len(history)
            and position.step == steps
            and 0 <= position.batch <= len(self.batches)
            and position.tokens == tokens
            and 0 <= position.nll < math.inf
            and 0 <= position.seconds < math.inf
            # fp16 leaves updates out; where there is no count, the optimizer needs none.
            and 0 <= saved["optimizer"].get("updates", 0) <= position.step
        )
        if not whole:
            raise StructureMismatchError("position: not one that a run of this text can be in")
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.precision.scaler is not None:
            self.precision.scaler.load_state_dict(saved["loss_scaler"])
        device = self.precision.device
        self.state = tuple(tuple(part.to(device) for part in layer) for layer in saved["state"])
        self.position = position
