"""Records signals, so that the training loop can stop or save a checkpoint between two steps."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

STOP_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
SAVE_SIGNALS = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]


class SaveSignal:
    """Context manager that records a request to save a checkpoint. Windows has no such signal.

    Signals that the parent process ignores stay ignored. Outside the main thread, where
    Python cannot set handlers, no signal is recorded.

    Attributes:
        received: number of the last signal; None if none was received.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SAVE_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._record)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _record(self, number: int, _frame: FrameType | None) -> None:
        self.received = number

    def take(self) -> str | None:
        """Returns the name of the received signal and clears it; None if none was received."""
        number, self.received = self.received, None
        return None if number is None else signal.Signals(number).name


class StopSignal:
    """Context manager that records the first stop signal. A second signal ends the process.

    Signals that the parent process ignores, for example because of `nohup`, stay ignored. Outside
    the main thread, where Python cannot set handlers, no signal is recorded.

    Args:
        on_signal: called in the signal handler when the first signal is recorded.

    Attributes:
        received: number of the signal; None if none was received.
    """

    def __init__(self, on_signal: Callable[[], None]) -> None:
        self.received: int | None = None
        self._on_signal = on_signal
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._previous[number] = signal.signal(number, self._record)
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
        # The default action ends the process immediately. A Python handler would wait for the
        # current matrix multiplication.
        for recorded in self._previous:
            signal.signal(recorded, signal.SIG_DFL)
        self._on_signal()
