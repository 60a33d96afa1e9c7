"""The peer of the desk's bench: `websockets` and py-clob-client-v2 in one loop, as their documentation shows them.

It has no limits, no journal, no truth to reconcile with, and stops reading while it sends; that is what makes it plain.
What its client would look up for each order (tick, neg-risk) it is spared.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from py_clob_client_v2 import ApiCreds, ClobClient, OrderArgs, OrderType, PartialCreateOrderOptions
from py_clob_client_v2.clob_types import OrderPayload
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

MICRO = 1_000_000
PING_S = 10.0
CHAIN_ID = 137
OPTIONS = PartialCreateOrderOptions(tick_size="0.01", neg_risk=False)


class PlainBot:
    """One bid in every market whose best bid is high."""

    def __init__(self, announced: Mapping[str, Any]) -> None:
        """Prepare the client."""
        given = announced["credentials"]
        creds = ApiCreds(given["api_key"], given["secret"], given["passphrase"])
        self._client = ClobClient(announced["rest_url"], chain_id=CHAIN_ID, key=announced["private_key"], creds=creds)
        self._url = announced["ws_market_url"]
        self._tokens: set[str] = set(announced["yes"])
        self._assets = [*announced["yes"], *announced["no"]]
        self._resting: dict[str, str] = {}
        self._bid_high = announced["bid_high"] / MICRO
        self._bid, self._size = announced["bot_bid"] / MICRO, announced["bot_size"] / MICRO

    def run(self) -> None:
        """Trade until the connection ends."""
        with connect(self._url) as socket:
            socket.send(json.dumps({"type": "market", "assets_ids": self._assets}))
            ping_at = time.perf_counter() + PING_S
            while True:
                try:
                    text = socket.recv(timeout=max(ping_at - time.perf_counter(), 0.0))
                except TimeoutError:
                    socket.send("PING")
                    ping_at = time.perf_counter() + PING_S
                    continue
                if text != "PONG":
                    self._hear(json.loads(text))

    def _hear(self, heard: Any) -> None:
        for event in heard if isinstance(heard, list) else [heard]:
            if event["event_type"] == "price_change":
                for change in event["price_changes"]:
                    self._follow(change["asset_id"], float(change["best_bid"]))

    def _follow(self, token_id: str, best_bid: float) -> None:
        if token_id not in self._tokens:
            return
        resting = self._resting.get(token_id)
        if best_bid == self._bid_high and resting is None:
            order = self._client.create_order(
                OrderArgs(token_id=token_id, price=self._bid, size=self._size, side="BUY"), OPTIONS
            )
            self._resting[token_id] = self._client.post_order(order, OrderType.GTC, True)["orderID"]
        elif best_bid != self._bid_high and resting is not None:
            self._client.cancel_order(OrderPayload(orderID=resting))
            del self._resting[token_id]


def main(argv: Sequence[str]) -> None:
    """Run with the announcement of the exchange, for as long as that lives."""
    with suppress(ConnectionClosed):  # the exchange ended
        PlainBot(json.loads(argv[0])).run()


if __name__ == "__main__":
    main(sys.argv[1:])
