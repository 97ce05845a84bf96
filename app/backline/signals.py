"""Signals that wait: what must not be left half done ends first, then the interrupt is heard."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_DEFERRED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_PATIENCE = 2


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Keep signals back until the block has ended, then raise the first of them again.

    The third in the same block is not kept back, and does what the system does with it: whoever asks three
    times means it. A block that ends in an exception has that exception, and no signal. Signals that are
    ignored stay ignored. Outside the main thread, where Python handles no signals, this does nothing.
    """
    waiting: list[int] = []

    def keep(number: int, _: FrameType | None) -> None:
        waiting.append(number)
        if len(waiting) > _PATIENCE:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    with contextlib.ExitStack() as before:
        if threading.current_thread() is threading.main_thread():
            for number in _DEFERRED:
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):  # None: not Python's, it could not be put back
                    before.callback(signal.signal, number, handler)
                    signal.signal(number, keep)
        yield
    if waiting:
        signal.raise_signal(waiting[0])
