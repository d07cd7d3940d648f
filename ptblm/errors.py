"""The exceptions that ptblm raises, with their exit codes.

| exit code | meaning |
|---|---|
| 0 | success |
| 1 | bug: prints a traceback |
| 2 | usage or config |
| 3 | data |
| 4 | checkpoint |
| 5 | training diverged |
| 6 | another process of the run ended, did not respond, or has different weights |
| 129, 130, 143 | stopped by SIGHUP, SIGINT (Ctrl-C), SIGTERM after the state was saved |
| 141 | the reader of stdout closed the pipe |
"""

import signal
from collections.abc import Sequence


class PtblmError(Exception):
    """Base class of all errors.

    Args:
        what: description of the error; a list if there are several problems.
        where: location of the error: file, line or key.
        hint: suggested fix, on one line.

    Attributes:
        problems: the descriptions, each of which is printed on a line of its own. Text of files
            in them may contain newlines.
        exit_code: exit code of the command line.
        label: first word of the printed message.
    """

    exit_code = 1
    label = "error"

    def __init__(
        self, what: str | Sequence[str], *, where: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(what)
        self.problems = [what] if isinstance(what, str) else list(what)
        self.where = where
        self.hint = hint

    @property
    def what(self) -> str:
        """The problems as one text."""
        return "\n".join(self.problems)

    def __str__(self) -> str:
        """Returns the message with `what`, `where` and `hint` on separate lines."""
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  at: {self.where}")
        if self.hint is not None:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class UsageError(PtblmError):
    """The arguments of a command are invalid or cannot be combined."""

    exit_code = 2


class ConfigError(PtblmError):
    """A config file or an override is invalid; `problems` lists everything that is wrong."""

    exit_code = 2


class DataError(PtblmError):
    """A corpus or text is missing, damaged or unsuitable."""

    exit_code = 3


class CheckpointError(PtblmError):
    """A checkpoint cannot be read, used or written."""

    exit_code = 4


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is missing or damaged; another checkpoint of the run may be intact."""


class DivergedError(PtblmError):
    """The loss, the gradient or a weight is not finite.

    Args:
        metrics: metrics of the step: epoch, batch, step, nll (nats per token), grad_norm,
            learning_rate.
        problem: what is not finite; None if it is the loss or the gradient of the step.
    """

    exit_code = 5

    def __init__(self, metrics: dict[str, float], problem: str | None = None) -> None:
        problem = problem or "loss {nll:.4g} per token, gradient norm {grad_norm:.4g}"
        super().__init__(
            f"training diverged: {problem}, learning rate {{learning_rate:.4g}}".format(**metrics),
            where="epoch {epoch:.0f}, batch {batch:.0f}, step {step:.0f}".format(**metrics),
            hint="use a lower training.learning_rate",
        )
        self.metrics = metrics


class LostProcessError(PtblmError):
    """Another process of the same run ended, or did not respond in time."""

    exit_code = 6

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"another process of the run ended or did not respond ({reason})",
            hint="resume the run from its last checkpoint with --resume",
        )


class DifferentWeightsError(PtblmError):
    """The weights are not the same in all processes of a run."""

    exit_code = LostProcessError.exit_code


class Interrupted(PtblmError):  # noqa: N818 - not an error
    """A stop signal was received and the state was saved. `hint` contains the resume command."""

    label = "stopped"

    def __init__(self, signal_number: int, *, hint: str) -> None:
        name = signal.Signals(signal_number).name
        super().__init__(f"by {name}; everything is saved", hint=hint)
        self.exit_code = 128 + signal_number
