"""Signals as a question that a loop asks, instead of an exception that cuts it anywhere."""

import contextlib
import os
import signal
from types import FrameType, TracebackType
from typing import Self

STOP_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class StopSignal:
    """While entered, the first stop signal is noted in `received`; the second ends at once.

    A signal that whoever started us had told us to ignore, as `nohup` does, stays ignored.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        # The system itself ends the process at the second: Python would wait for the end of
        # whatever product is being computed.
        for noted in self._previous:
            signal.signal(noted, signal.SIG_DFL)
        with contextlib.suppress(OSError):  # whoever read it may be gone
            os.write(2, b"\nstopping after this step; again ends at once\n")
