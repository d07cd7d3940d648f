"""Every error that ptblm raises on purpose: what happened, where, what to do, and its exit code.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a bug: it keeps its traceback |
| 2 | usage or config |
| 3 | data |
| 4 | checkpoint |
| 5 | training diverged |
| 128 + n | stopped by signal n: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP, saved first; 141 SIGPIPE |
"""

import signal


class PtblmError(Exception):
    """The root of the tree; `exit_code` is what the command line ends with.

    Args:
        what: one line that says what happened.
        where: the file, line or key that it happened at.
        hint: one line that says what to do about it.
    """

    exit_code = 1
    label = "error"

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        """The error as people read it: one line each for what, where and what to do."""
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  at: {self.where}")
        if self.hint is not None:
            lines.append(f"  try: {self.hint}")
        return "\n".join(lines)


class UsageError(PtblmError):
    """The command's arguments can't be used as they are."""

    exit_code = 2


class ConfigError(PtblmError):
    """A config file or an override is wrong; `what` holds every problem, a line each."""

    exit_code = 2


class DataError(PtblmError):
    """A corpus is missing, damaged or does not fit."""

    exit_code = 3


class CheckpointError(PtblmError):
    """A checkpoint can't be read, trusted or written."""

    exit_code = 4


class DamagedCheckpointError(CheckpointError):
    """A checkpoint's bytes are not those that were written, or are gone; another may be good."""


class DivergedError(PtblmError):
    """The loss or the gradient is no longer finite; `metrics` are those of the step."""

    exit_code = 5

    def __init__(self, metrics: dict[str, float]) -> None:
        super().__init__(
            "training diverged: loss {nll:.4g} per token, gradient norm {grad_norm:.4g}, "
            "learning rate {learning_rate:.4g}".format(**metrics),
            where="epoch {epoch:.0f}, batch {batch:.0f}, step {step:.0f}".format(**metrics),
            hint="--resume with --set training.learning_rate or training.max_grad_norm, lower",
        )
        self.metrics = metrics


class Interrupted(PtblmError):  # noqa: N818 - no error of anyone's
    """A signal asked to stop, and everything was saved; `hint` says how to go on."""

    label = "stopped"

    def __init__(self, signal_number: int, *, hint: str) -> None:
        name = signal.Signals(signal_number).name
        super().__init__(f"by {name}; everything is saved", hint=hint)
        self.exit_code = 128 + signal_number
