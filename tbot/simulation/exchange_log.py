"""The local exchange's own memory, so that a simulation with a kept state can be killed and go on."""

from __future__ import annotations

from pathlib import Path

from tbot.exchanges.simulated.operations import Operation
from tbot.store.append_log import AppendLog

FILE_NAME = "exchange.log"

ExchangeLog = AppendLog[Operation]


def open_exchange_log(state: Path | None) -> ExchangeLog:
    """Open the log of a state folder, which must exist; None = keep nothing.

    Raises:
        StateCorrupt: The log is damaged before its end.
    """
    return AppendLog(None if state is None else state / FILE_NAME, Operation)
