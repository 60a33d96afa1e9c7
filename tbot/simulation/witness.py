"""The bot's store with the judge looking on: which orders were durable at which moment.

Only what came back from the disk counts. An order that reaches the exchange before its `Prepared` did is a gamble on
not crashing, and no later look at the journal can tell: by then the row is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tbot.core.messages import ExchangeOrderId
from tbot.core.units import Nanos
from tbot.store.database import Migrations
from tbot.store.folder import StateFolder
from tbot.store.journal import Store
from tbot.store.rows import PreparedRow, Row
from tbot.tasks.coordinator import decode_prepared


class WitnessedStore(Store):
    """A store that remembers every order made durable in this run."""

    def __init__(self, folder: StateFolder | None, identity: str, migrations: Migrations) -> None:
        """Begin with nothing seen."""
        super().__init__(folder, identity, migrations)
        self._signed_ns: dict[ExchangeOrderId, Nanos] = {}

    @property
    def signed_ns(self) -> Mapping[ExchangeOrderId, Nanos]:
        """When each durable order was signed, by the exchange's id; grows while the run goes on."""
        return self._signed_ns

    def write(self, rows: Sequence[Row]) -> None:
        """Write a group as the store does, and remember its orders once they are durable.

        Raises:
            WriteFailed: As the store.
            InvariantViolated: As the store.
            StateCorrupt: As the store.
        """
        super().write(rows)
        for row in rows:
            if isinstance(row, PreparedRow):
                prepared = decode_prepared(row.payload)
                self._signed_ns[prepared.exchange_order_id] = prepared.at_ns
