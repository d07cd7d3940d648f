"""The loop: epochs of steps, a validation after each, the test at the end.

The trainer yields records and knows nothing of files, bars or signals. Between any two records
it can be abandoned, and `state_dict` says all that a later one needs to go on from there.
"""

import math
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ptblm.config.schema import TrainingConfig
from ptblm.corpus.batches import Batches
from ptblm.corpus.splits import Split
from ptblm.errors import DivergedError
from ptblm.evaluation.evaluate import on_device, running_scores
from ptblm.evaluation.score import Score, perplexity
from ptblm.model.language_model import LanguageModel
from ptblm.model.recurrent import State, detach_state
from ptblm.training.gradients import fast_backward, plain_backward
from ptblm.training.misfit import MisfitError, refuse_misfit
from ptblm.training.optimizer import kept_tensors, make_optimizer
from ptblm.training.precision import Arithmetic
from ptblm.training.randomness import derive_seed, seed_global_generator
from ptblm.training.records import EpochDone, Evaluating, Record, RunDone, StepDone
from ptblm.training.schedule import learning_rate
from ptblm.training.step import NotFiniteError, train_step


@dataclass
class Position:
    """Where a run is.

    Attributes:
        epoch: epochs wholly done, validation included.
        batch: batches of the current epoch that are done.
        step: updates since the run began.
        nll: summed over the current epoch so far, in nats.
        tokens: targets of the current epoch so far.
        seconds: spent on training in the current epoch so far.
        history: an `EpochDone` for each epoch done.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    nll: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    history: list[EpochDone] = field(default_factory=list)


_SOME_EPOCH = EpochDone(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, best=False)


class Trainer:
    """Trains a model.

    Args:
        model: with its initial weights, on its device.
        config: the optimisation.
        arithmetic: device and precision.
        train: batches to train on.
        valid: batches to validate on after every epoch.
        test: the test split as one stream.
        marks: ids whose share of a score is kept apart.
    """

    def __init__(
        self,
        model: LanguageModel,
        config: TrainingConfig,
        arithmetic: Arithmetic,
        *,
        train: Batches,
        valid: Batches,
        test: Batches,
        marks: Mapping[str, int] | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self.arithmetic = arithmetic
        self.optimizer = make_optimizer(model.trainable_parameters(), config)
        self.backward = plain_backward if config.plain else fast_backward
        # A step sees 400 of 10,000 words; the zeros of all others took 6 % of it. (On a GPU they
        # cost nothing, and finding out which words these are would.)
        model.embedding.sparse = (
            config.optimizer == "sgd" and not config.plain and arithmetic.device.type == "cpu"
        )
        self.batches = train
        self.train_text = on_device(train, arithmetic.device)
        self.evaluation_texts: dict[Split, tuple[Tensor, Tensor]] = {
            "valid": on_device(valid, arithmetic.device),
            "test": on_device(test, arithmetic.device),
        }
        self.marks = marks or {}
        self.position = Position()
        self.state = self._start_state()
        self.dropout_generator = torch.Generator(arithmetic.device)

    def records(self) -> Iterator[Record]:
        """Trains from where `position` is to the end."""
        while self.position.epoch < self.config.epochs:
            yield from self._train_epoch()
            yield from self._finish_epoch()
        score = yield from self._evaluate("test")
        yield RunDone(self.position.step, score)

    def _train_epoch(self) -> Iterator[StepDone]:
        for batch in range(self.position.batch, len(self.batches)):
            yield self._train_batch(batch)

    def _train_batch(self, batch: int) -> StepDone:
        start = time.perf_counter()
        position, config = self.position, self.config
        columns = self.batches.columns(batch)
        inputs, targets = (text[:, columns].int() for text in self.train_text)
        rate = self._learning_rate()
        # At an epoch's start anew, and not what was stored: a learned state wants its gradient.
        state = self.model.initial_state(config.batch_size) if batch == 0 else self.state
        seed = derive_seed(config.seed, "dropout", position.step)
        self.dropout_generator.manual_seed(seed)
        seed_global_generator(self.arithmetic.device, seed)
        try:
            result = train_step(
                self.backward,
                self.model,
                self.optimizer,
                self.arithmetic,
                inputs,
                targets,
                state,
                learning_rate=rate,
                max_grad_norm=config.max_grad_norm,
                generator=self.dropout_generator,
            )
        except NotFiniteError as seen:
            figures = self._figures(seen.nll / inputs.numel(), seen.grad_norm)
            raise DivergedError(figures) from None
        self.state = result.state
        position.batch = batch + 1
        position.step += 1
        position.nll += result.nll
        position.tokens += inputs.numel()
        position.seconds += time.perf_counter() - start
        return StepDone(
            epoch=position.epoch + 1,
            batch=position.batch,
            batches=len(self.batches),
            step=position.step,
            learning_rate=rate,
            nll=result.nll,
            tokens=inputs.numel(),
            grad_norm=result.grad_norm,
            epoch_nll=position.nll,
            epoch_tokens=position.tokens,
            epoch_seconds=position.seconds,
        )

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
        self.position = Position(
            epoch=position.epoch + 1, step=position.step, history=[*position.history, done]
        )
        self.state = self._start_state()
        yield done

    def _learning_rate(self) -> float:
        """Of the next step of this epoch, or of its last if there is none."""
        position, batches = self.position, len(self.batches)
        return learning_rate(
            self.config,
            epoch=position.epoch,
            batch=min(position.batch, batches - 1),
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
        with self.arithmetic.exact():
            for score in running_scores(self.model, inputs, targets, marks=self.marks):
                yield Evaluating(split, score, inputs.numel())
        self.model.train()
        return score

    def refuse_divergence(self) -> None:
        """Looks at all weights and averages; what is not finite must not be saved over what is.

        Raises:
            DivergedError: if one is not.
        """
        tensors = [*self.optimizer.parameters, *kept_tensors(self.optimizer)]
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
        scaler = self.arithmetic.scaler
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
            MisfitError: if anything in it is missing, unknown, or unlike this trainer's own; the
                trainer is as before.
        """
        refuse_misfit(self.state_dict(), saved, varying={"position.history"})
        history = saved["position"]["history"]
        for number, done in enumerate(history):
            refuse_misfit(asdict(_SOME_EPOCH), done, f"position.history.{number}")
        position = Position(
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
            raise MisfitError("position: not one that a run of this text can be in")
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.arithmetic.scaler is not None:
            self.arithmetic.scaler.load_state_dict(saved["loss_scaler"])
        device = self.arithmetic.device
        self.state = tuple(tuple(part.to(device) for part in layer) for layer in saved["state"])
        self.position = position
