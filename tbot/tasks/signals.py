"""SIGINT and SIGTERM: the first asks for the orderly end, at whatever stage; the second is the end.

Plain handlers, not a task: they work even while the loop is blocked.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

import trio

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPING = "\nstopping in order: orders are cancelled first; once more to stop at once\n"
STOPPED = "\nhard stop: orders may rest; the next start with the same state finds and cancels them\n"


class StopSignals:
    """What both signals do while a bot lives. For the main thread.

    Attributes:
        count: How many were heard.
    """

    def __init__(self) -> None:
        """Begin with none heard."""
        self.count = 0
        self._ask: Callable[[], object] | None = None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Take both signals until the context ends."""
        before = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def setting(self, event: trio.Event) -> Iterator[None]:
        """Let the first signal set this event, also one that came earlier; to be entered inside the run."""
        self._ask = partial(trio.lowlevel.current_trio_token().run_sync_soon, event.set)
        if self.count:
            event.set()
        try:
            yield
        finally:
            self._ask = None

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            _shout(STOPPED)
            os._exit(128 + number)
        _shout(STOPPING)
        if self._ask is not None:
            self._ask()


def _shout(text: str) -> None:
    # Past all buffers, one of which may be in use right now.
    with suppress(OSError):
        os.write(2, text.encode())
