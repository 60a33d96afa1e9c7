"""The Data API's routes: positions, trades, activity, value and approvals of any wallet. No authentication, no effect.

It is an index of the chain: a trade is here once it is MINED, seconds after the exchange's own records have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import trio
from eth_utils.address import to_checksum_address

from tbot.core.market import MarketId
from tbot.core.units import MICRO
from tbot.exchanges.simulated.approvals import approvals
from tbot.exchanges.simulated.catalog import EventListing, Listing
from tbot.exchanges.simulated.data_queries import (
    DataRefusal,
    asked_markets,
    bound_micro,
    choice,
    conditions,
    events,
    flag,
    listed,
    page,
    period_ns,
    required_wallet,
    title_filter,
    wallet,
)
from tbot.exchanges.simulated.gathering import gathered
from tbot.exchanges.simulated.http import Reply, Request, Routes, json_response
from tbot.exchanges.simulated.operations import Account, ConvertPositions, Deposit, MergePair, RedeemTokens, SplitPair
from tbot.exchanges.simulated.portfolio import Fill, Movement, Portfolios, Record
from tbot.exchanges.simulated.state import ServerState
from tbot.exchanges.simulated.wire_data import (
    CLOSED,
    OPEN,
    REDEEMABLE,
    Holding,
    WireActivity,
    movement_activity,
    trade_activity,
    wire_position,
    wire_trade,
)

DATA_PATH = "/data-api"
"""Where the Data API lies on the server: its paths meet those of the CLOB, so it has a root of its own."""

DUST = MICRO // 10
"""Positions of less than a tenth of a share are not shown unless asked for."""

_LOST, _MERGEABLE = "REDEEMABLE_LOST", "MERGEABLE"
_STATUSES = (OPEN, REDEEMABLE, _LOST, _MERGEABLE, CLOSED)
_SORTS: dict[str, Callable[[Holding], int]] = {
    "CURRENT_VALUE": lambda holding: holding.value,
    "PRICE": lambda holding: holding.price,
    "TOKENS": lambda holding: holding.stake.size,
    "UNREALIZED_PNL": lambda holding: holding.unrealized,
    "REALIZED_PNL": lambda holding: holding.stake.realized,
    "TOTAL_PNL": lambda holding: holding.stake.realized + holding.unrealized,
    "TIMESTAMP": lambda holding: holding.stake.last_ns,
}
_SORT_BY_STATUS = {_MERGEABLE: "TOKENS", CLOSED: "REALIZED_PNL"}
_DIRECTIONS = ("ASC", "DESC")
_SIDES = ("BUY", "SELL")
# Kinds of activity that production knows; those that nothing here brings about are asked for in vain.
_KINDS = (
    *("TRADE", "SPLIT", "MERGE", "REDEEM", "REWARD", "CONVERSION", "MIGRATION", "DEPOSIT", "WITHDRAWAL", "YIELD"),
    *("MAKER_REBATE", "TAKER_REBATE", "REFERRAL_REWARD", "TIP"),
)
_CASH_KINDS = ("DEPOSIT", "WITHDRAWAL")


class DataRoutes:
    """What wallets have and did."""

    def __init__(self, state: ServerState) -> None:
        """Read from this server's exchange."""
        self._state = state
        self._portfolios = Portfolios(state.exchange.engine)

    def routes(self) -> Routes:
        """Give the routing table."""
        table = {
            "/v2/positions": self._positions,
            "/v2/trades": self._trades,
            "/v2/activity": self._activity,
            "/v2/value": self._value,
            "/v2/approvals": self._approvals,
        }
        return {("GET", DATA_PATH + path): handler for path, handler in table.items()}

    async def _positions(self, request: Request) -> Reply:
        await self._catch_up()
        status = choice(request, "status", _STATUSES)
        _check_positions(request, status)
        sort = choice(request, "sort_by", tuple(_SORTS)) or _SORT_BY_STATUS.get(status or "", "CURRENT_VALUE")
        is_rising = choice(request, "sort_direction", _DIRECTIONS) == "ASC"
        is_shown = _holding_filter(request, status)
        kept = [holding for holding in self._asked(request) if is_shown(holding)]
        ordered = sorted(kept, key=_SORTS[sort], reverse=not is_rising)
        return page(ordered, request, lambda h: f"{h.wallet}/{h.token_id}", wire_position)

    async def _trades(self, request: Request) -> Reply:
        await self._catch_up()
        who, where = wallet(request), {m.rules.market_id: m for _, m in asked_markets(self._events(), request)}
        side = choice(request, "side", _SIDES)
        first_ns, last_ns = period_ns(request)
        kind, least = bound_micro(request, default=("TOKENS", 0))
        is_taker_only = flag(request, "taker_only", default=True)

        def asked_of(record: Record) -> Iterator[Fill]:
            if (
                isinstance(record, Fill)
                and record.market_id in where
                and side in (None, record.side)
                and (record.is_taker or not is_taker_only)
                and (who is None or first_ns <= record.at_ns <= last_ns)
                and (record.notional if kind == "CASH" else record.size) >= least
            ):
                yield record

        kept = await gathered(self._records(who), asked_of)
        return page(kept, request, _place_of, lambda fill: self._trade_row(fill, where))

    def _trade_row(self, fill: Fill, where: dict[MarketId, Listing]) -> object:
        return wire_trade(fill, self._address(fill.account), where[fill.market_id])

    async def _activity(self, request: Request) -> Reply:
        await self._catch_up()
        who, catalogue = required_wallet(request), self._events()
        where = {market.rules.market_id for _, market in asked_markets(catalogue, request)}
        listings = {market.rules.market_id: market for event in catalogue for market in event.listings}
        side = choice(request, "side", _SIDES)
        is_any_market = conditions(request) is None and events(request) is None
        kinds = listed(request, "type")
        if any(kind not in _KINDS for kind in kinds):
            raise DataRefusal(f"type must be one of {', '.join(_KINDS)}", parameter="type")
        has_cash_kinds = not flag(request, "exclude_deposits_withdrawals", default=True)
        first_ns, last_ns = period_ns(request)
        records = [record for record in self._records(who) if first_ns <= record.at_ns <= last_ns]
        if choice(request, "sort_direction", _DIRECTIONS) == "ASC":
            records.reverse()

        def asked_of(record: Record) -> Iterator[tuple[str, WireActivity]]:
            for index, row in enumerate(_rows(record, self._address(record.account), listings)):
                is_of_kind = (not kinds or row.type in kinds) and (has_cash_kinds or row.type not in _CASH_KINDS)
                if is_of_kind and side in (None, row.side) and (is_any_market or row.condition_id in where):
                    yield f"{_place_of(record)}.{index}", row

        rows = await gathered(records, asked_of)
        return page(rows, request, lambda pair: pair[0], lambda pair: pair[1])

    async def _value(self, request: Request) -> Reply:
        await self._catch_up()
        who = required_wallet(request)
        value = sum(holding.value for holding in self._asked(request)) / MICRO
        return json_response({"data": {"proxy_wallet": who, "value": value}})

    async def _approvals(self, request: Request) -> Reply:
        who, verifier = required_wallet(request), self._state.verifier
        granted = partial(self._state.allowance, Account(to_checksum_address(who)))
        rows = approvals(granted, exchange_v3=verifier.exchange_v3)
        return json_response({"data": {"address": who, "chain_id": verifier.chain_id, "contracts": rows}})

    # --- what is asked for ------------------------------------------------------------------------------------------

    # The log may be long at the first question: others get their turn while it is read.
    async def _catch_up(self) -> None:
        for _ in iter(self._portfolios.update, False):
            await trio.lowlevel.checkpoint()

    def _asked(self, request: Request) -> Iterator[Holding]:
        who = wallet(request)
        places = {m.rules.market_id: (event, m) for event, m in asked_markets(self._events(), request)}
        for account in self._portfolios.accounts():
            address = self._address(account)
            if who not in (None, address.lower()):
                continue
            stakes = self._portfolios.stakes(account)
            for token_id, stake in stakes.items():
                place = places.get(self._state.exchange.engine.market_of(token_id))
                if place is None:
                    continue
                event, listing = place
                sizes = [stakes[token].size if token in stakes else 0 for token in listing.rules.tokens]
                yield Holding(
                    wallet=address,
                    token_id=token_id,
                    stake=stake,
                    listing=listing,
                    event=event,
                    pairs=0 if listing.rules.yes_payout is not None else min(sizes),
                )

    def _events(self) -> tuple[EventListing, ...]:
        return self._state.catalog.events(self._state.now_ns())

    # Newest first.
    def _records(self, who: str | None) -> list[Record]:
        if who is None:
            return self._portfolios.records[::-1]
        accounts = [a for a in self._portfolios.accounts() if self._address(a).lower() == who]
        return [record for account in accounts for record in reversed(self._portfolios.records_of(account))]

    def _address(self, account: Account) -> str:
        return self._state.directory.address(account)


def _check_positions(request: Request, status: str | None) -> None:
    if wallet(request) is None:
        if len(conditions(request) or ()) != 1:
            raise DataRefusal("user or exactly one condition_id is required", parameter="user")
        if status in (_LOST, _MERGEABLE):
            raise DataRefusal(f"status {status} requires user", parameter="user")
    if flag(request, "include_archived", default=False) and status == CLOSED:
        raise DataRefusal("include_archived is invalid with CLOSED", parameter="include_archived")


def _holding_filter(request: Request, status: str | None) -> Callable[[Holding], bool]:
    kind, least = bound_micro(request, default=("TOKENS", 0 if status == CLOSED else DUST))
    first_ns, last_ns = period_ns(request)
    is_titled = title_filter(request)

    def is_shown(holding: Holding) -> bool:
        is_of_status = {
            None: holding.status != CLOSED,
            _LOST: holding.status == REDEEMABLE and not holding.price,
            _MERGEABLE: holding.pairs > 0,
        }.get(status, holding.status == status)
        return (
            is_of_status
            and (holding.value if kind == "CASH" else holding.stake.size) >= least
            and first_ns <= holding.stake.last_ns <= last_ns
            and is_titled(holding.listing.subject.title)
        )

    return is_shown


def _rows(record: Record, address: str, listings: dict[MarketId, Listing]) -> Iterator[WireActivity]:
    if isinstance(record, Fill):
        yield trade_activity(record, address, listings[record.market_id])
    else:
        yield from _movement_rows(record, address, listings)


def _movement_rows(movement: Movement, address: str, where: dict[MarketId, Listing]) -> Iterator[WireActivity]:
    moved = movement.moved
    match moved.operation:
        case Deposit(cash=cash):
            kind = "DEPOSIT" if cash >= 0 else "WITHDRAWAL"
            yield movement_activity(movement, kind, address, None, size=abs(cash), cash=abs(cash))
        case SplitPair(market_id=market_id, size=size):
            yield movement_activity(movement, "SPLIT", address, where[market_id], size=size, cash=size)
        case MergePair(market_id=market_id, size=size):
            yield movement_activity(movement, "MERGE", address, where[market_id], size=size, cash=size)
        case ConvertPositions(market_ids=market_ids, size=size):
            market = where[market_ids[0]]
            yield movement_activity(movement, "CONVERSION", address, market, size=size, cash=moved.cash)
        case RedeemTokens(market_id=market_id):
            market = where[market_id]
            for token_id, change in moved.tokens:
                paid = -change * market.price_of(token_id) // MICRO
                yield movement_activity(movement, "REDEEM", address, market, size=-change, cash=paid, token_id=token_id)


def _place_of(record: Record) -> str:
    return str(record.place)
