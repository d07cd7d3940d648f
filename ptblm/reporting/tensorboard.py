"""Writes TensorBoard curves of a run if `run.tensorboard` is true.

The final results are those of an entry of TensorBoard's HPARAMS page, with the config as its
hyperparameters.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ptblm.config.schema import Config
from ptblm.errors import UsageError
from ptblm.training.records import EpochDone, Record, RunDone, StepDone, best_epoch


class TensorBoard:
    """Writes the metrics of a run as scalars over steps.

    Args:
        directory: directory of the event files.
        purge_step: first step to ignore in existing event files, because a resumed run rewrites
            it and all later steps.
        log_every: steps between two points of the training curves.
        config: the config of the run, for the HPARAMS page; None to omit it.
        model: the model whose weights become histograms after each epoch; None for none.
        history: the completed epochs of a resumed run.

    Raises:
        UsageError: if TensorBoard is not installed.
    """

    def __init__(
        self,
        directory: Path,
        purge_step: int,
        log_every: int,
        config: Config | None = None,
        model: nn.Module | None = None,
        history: Sequence[EpochDone] = (),
    ) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError(
                "run.tensorboard requires the tensorboard package",
                hint="pip install 'ptblm[tensorboard]'",
            ) from None
        self._writer = SummaryWriter(str(directory), purge_step=purge_step)
        self._log_every = log_every
        self._config = config
        self._model = model
        self._history = list(history)

    def write(self, record: Record) -> None:
        """Adds the metrics of a record to the curves."""
        if isinstance(record, StepDone) and record.step % self._log_every == 0:
            self._add("optim/learning_rate", record.learning_rate, record.step)
            if record.grad_norm is not None:
                self._add("optim/grad_norm", record.grad_norm, record.step)
            self._add("speed/tokens_per_second", record.tokens_per_second, record.step)
            self._add("train/perplexity", record.running_perplexity, record.step)
        elif isinstance(record, EpochDone):
            self._history.append(record)
            self._add("valid/perplexity", record.valid_perplexity, record.step)
            self._add_histograms(record.step)
            self._writer.flush()
        elif isinstance(record, RunDone) and self._config is not None:
            self._add_results(record, self._config)

    def close(self) -> None:
        """Writes pending points and closes the event file."""
        self._writer.close()

    def _add_histograms(self, step: int) -> None:
        """Adds a histogram of each weight, and of its last gradient if there is one."""
        for name, parameter in [] if self._model is None else self._model.named_parameters():
            self._writer.add_histogram(f"weights/{name}", parameter.detach().float(), step)
            gradient = parameter.grad
            if gradient is not None:
                dense = gradient.coalesce().values() if gradient.is_sparse else gradient
                self._writer.add_histogram(f"gradients/{name}", dense.float(), step)

    def _add_results(self, done: RunDone, config: Config) -> None:
        """Adds the hyperparameters and the final results of the run to its own event file.

        `SummaryWriter.add_hparams` would create another directory, which looks like another run.
        """
        from torch.utils.tensorboard.summary import hparams

        results = {}
        if self._history:
            results["result/valid_perplexity"] = self._history[-1].valid_perplexity
            results["result/best_valid_perplexity"] = best_epoch(self._history).valid_perplexity
        if done.score is not None:
            results["result/test_perplexity"] = done.score.perplexity
        values = dict(_flat(config.model_dump(include={"model", "training"})))
        writer: Any = self._writer._get_file_writer()
        for summary in hparams(values, results):
            writer.add_summary(summary)
        for tag, value in results.items():
            self._add(tag, value, done.step)

    def _add(self, tag: str, value: float, step: int) -> None:
        self._writer.add_scalar(tag, value, step)


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields keys such as "model.hidden_size", with values that the HPARAMS page accepts."""
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            is_plain = isinstance(value, bool | int | float | str)
            yield f"{prefix}{name}", value if is_plain else str(value)
