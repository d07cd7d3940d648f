"""Signals, from the first instant of a command to the last.

A stop signal ends a command that has nothing to clean up at once, raises SystemExit in one that
has, and is recorded during training, so that the loop can stop between two steps. A second stop
signal ends the process at once, except SIGTERM and SIGHUP if several processes train together.

Imports only what is loaded quickly: the command line installs the handlers before anything else.
"""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType

STOP_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
SAVE_SIGNALS = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]

# The stop signal that has raised SystemExit in this process.
_raised: int | None = None


def end_on_stop() -> None:
    """Makes stop signals end the process at once, and save signals harmless.

    This is for a command that holds nothing. An exception could be swallowed by an import.
    """
    global _raised
    _raised = None
    _install(STOP_SIGNALS, lambda number, _: os._exit(128 + number))
    _install(SAVE_SIGNALS, lambda *_: None)


def clean_up_on_stop() -> None:
    """Makes a stop signal raise SystemExit, so that context managers release what they hold.

    Call this when a command has imported what it needs, before it locks or writes anything.
    """
    _install(STOP_SIGNALS, _raise)
    sys.unraisablehook = _report_unraisable


def stopped() -> int | None:
    """Returns the exit code for the stop signal that raised SystemExit; None if there was none.

    The SystemExit itself may have been swallowed, for example in a destructor.
    """
    return None if _raised is None else 128 + _raised


def ignore_signals() -> None:
    """Ignores all signals, so that the exit code of a finished command stays the same."""
    _install([*STOP_SIGNALS, *SAVE_SIGNALS], signal.SIG_IGN)


def _install(numbers: list[int], handler: "signal._HANDLER") -> dict[int, "signal._HANDLER"]:
    """Sets the handler of signals, and returns the previous handlers.

    Signals that the parent process ignores, for example because of `nohup`, stay ignored. Nothing
    changes outside the main thread, where Python cannot set handlers.
    """
    numbers = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
    try:
        return {number: signal.signal(number, handler) for number in numbers}
    except ValueError:  # not the main thread
        return {}


def _raise(number: int, _frame: FrameType | None) -> None:
    global _raised
    _raised = number
    # The default action ends the process immediately. A Python handler would wait for the
    # current matrix multiplication.
    _install(STOP_SIGNALS, signal.SIG_DFL)
    raise SystemExit(128 + number)


def _report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Reports an exception in a destructor, unless a stop signal is its cause.

    Of two stop signals that arrive before a handler runs, Python reports the second as an
    exception, because its handler is no longer a Python function. They count as one signal.
    """
    is_second_signal = isinstance(unraisable.exc_value, OSError) and "race condition" in str(
        unraisable.exc_value
    )
    if _raised is None and not is_second_signal:
        sys.__unraisablehook__(unraisable)


class SaveSignal:
    """Context manager that records a request to save a checkpoint. Windows has no such signal.

    Signals that the parent process ignores stay ignored, and nothing is recorded outside the main
    thread.

    Attributes:
        received: number of the last signal; None if none was received.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> "SaveSignal":
        self._previous = _install(SAVE_SIGNALS, self._record)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _record(self, number: int, _frame: FrameType | None) -> None:
        self.received = number

    def take(self) -> int | None:
        """Returns the number of the received signal and clears it; None if none was received."""
        number, self.received = self.received, None
        return number


class StopSignal:
    """Context manager that records the first stop signal. A second signal ends the process.

    If several processes train together, a second SIGTERM or SIGHUP is ignored: a cluster sends the
    signal to all processes, and torchrun passes it on to the same ones.

    Signals that the parent process ignores stay ignored, and nothing is recorded outside the main
    thread.

    Args:
        on_signal: called in the signal handler when the first signal is recorded.
        one_of_several: whether the process is one of several that train together.

    Attributes:
        received: number of the signal; None if none was received.
    """

    def __init__(self, on_signal: Callable[[], None], *, one_of_several: bool = False) -> None:
        self.received: int | None = None
        self._on_signal = on_signal
        self._one_of_several = one_of_several
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> "StopSignal":
        if (code := stopped()) is not None:  # the SystemExit was swallowed
            raise SystemExit(code)
        self._previous = _install(STOP_SIGNALS, self._record)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _record(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        if self._one_of_several:
            _install([other for other in STOP_SIGNALS if other != signal.SIGINT], signal.SIG_IGN)
        _install(STOP_SIGNALS, signal.SIG_DFL)  # changes none that are ignored
        self._on_signal()
