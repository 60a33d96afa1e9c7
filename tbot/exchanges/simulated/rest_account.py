"""Private routes that move no order: API keys, records, balances, and the dead-man switch."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, TradeId
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated.accounts import ApiCredentials, Member
from tbot.exchanges.simulated.contracts import EXCHANGE_V2, EXCHANGE_V2_NEG_RISK, AssetType, asset_type_of
from tbot.exchanges.simulated.events import OrderView, Trade
from tbot.exchanges.simulated.gathering import gathered
from tbot.exchanges.simulated.http import HttpRefusal, Reply, Request, Response, Routes, json_response
from tbot.exchanges.simulated.operations import ANY_MARKET, ANY_TOKEN, Account
from tbot.exchanges.simulated.rest_public import page
from tbot.exchanges.simulated.scoring import ScoredMarket, is_scoring
from tbot.exchanges.simulated.standing import Standing
from tbot.exchanges.simulated.state import ServerState
from tbot.exchanges.simulated.trades import parties
from tbot.exchanges.simulated.wire_account import OpenOrder, TradeRecord, open_order, trade_record
from tbot.exchanges.simulated.wire_in import IDS_PER_SCORING_MAX, TEXT_PAYLOAD, Heartbeat, SignatureType, decode

RECORDS_PER_PAGE = 100

_SECONDS_DIGITS_MAX = 10


class AccountRoutes:
    """Who am I, what do I have, what became of it."""

    def __init__(self, state: ServerState) -> None:
        """Serve the members of this server."""
        self._state = state
        self._heartbeats = HeartbeatChains()

    def routes(self) -> Routes:
        """Give the routing table."""
        signed = self._state.for_member
        return {
            ("POST", "/auth/api-key"): self._create_key,
            ("GET", "/auth/derive-api-key"): self._derive_key,
            ("GET", "/auth/api-keys"): signed(self._list_keys),
            ("DELETE", "/auth/api-key"): signed(self._delete_key),
            ("GET", "/auth/ban-status/closed-only"): signed(self._closed_only),
            ("GET", "/v1/user/rate-limit-tier"): signed(self._tier),
            ("GET", "/notifications"): signed(self._notifications),
            ("DELETE", "/notifications"): signed(self._drop_notifications),
            ("GET", "/data/order/{}"): signed(self._order),
            ("GET", "/data/orders"): signed(self._orders),
            ("GET", "/data/trades"): signed(self._trades),
            ("GET", "/data/pre-migration-orders"): signed(self._pre_migration_orders),
            ("GET", "/order-scoring"): signed(self._is_scoring),
            ("POST", "/orders-scoring"): signed(self._are_scoring),
            ("GET", "/balance-allowance"): signed(self._balance),
            ("GET", "/balance-allowance/update"): signed(self._update_balance),
            ("POST", "/v1/heartbeats"): signed(self._heartbeat),
        }

    # --- keys -------------------------------------------------------------------------------------------------------

    async def _create_key(self, request: Request) -> Reply:
        return _key_answer(self._state.keys.create(*self._attested(request)))

    async def _derive_key(self, request: Request) -> Reply:
        return _key_answer(self._state.keys.derive(*self._attested(request)))

    def _attested(self, request: Request) -> tuple[str, int]:
        return self._state.keys.attested(request, now_s=self._state.now_s)

    async def _list_keys(self, _: Request, member: Member) -> Reply:
        return json_response({"apiKeys": self._state.keys.keys_of(member.address)})

    async def _delete_key(self, _: Request, member: Member) -> Reply:
        self._state.keys.delete(member.api_key)
        return json_response("OK")

    async def _closed_only(self, _: Request, member: Member) -> Reply:
        standing = self._state.standings.of(member.address).standing
        return json_response({"closed_only": standing is Standing.CLOSED_ONLY})

    # The name of the field is not documented; the headers' word is the likeliest.
    async def _tier(self, _: Request, member: Member) -> Reply:
        return json_response({"tier": self._state.quotas.tier_of(member.address)})

    # What happens to orders is told on the user channel; this exchange writes nobody letters about it.
    async def _notifications(self, _: Request, _member: Member) -> Reply:
        return json_response([])

    async def _drop_notifications(self, _: Request, _member: Member) -> Reply:
        return json_response("OK")

    # --- records ----------------------------------------------------------------------------------------------------

    async def _order(self, request: Request, member: Member) -> Reply:
        order = self._own_order(request.tail, member)
        if order is None:
            raise HttpRefusal("order not found", status=404)
        return json_response(open_order(order, self._state.directory))

    async def _orders(self, request: Request, member: Member) -> Reply:
        # One sweep of a report starts with this page, so the dice are thrown here and for no other read.
        if self._state.exchange.faults.on_report():
            raise HttpRefusal("Internal server error", status=500)
        cursor, order_ids = request.query.get("next_cursor", ""), self._asked_orders(request, member)
        return json_response(page(order_ids, cursor, size=RECORDS_PER_PAGE, show=self._open_order))

    def _asked_orders(self, request: Request, member: Member) -> list[ExchangeOrderId]:
        query = request.query
        market_id, token_id = MarketId(query.get("market", "")), TokenId(query.get("asset_id", ""))
        if not (order_id := query.get("id", "")):
            accounts = self._state.accounts_of(member)
            return self._state.exchange.engine.open_ids(accounts, market_id=market_id, token_id=token_id)
        order = self._own_order(order_id, member)  # by id, an order is shown in every state
        if order is None or market_id not in (ANY_MARKET, order.market_id):
            return []
        return [order.order_id] if token_id in (ANY_TOKEN, order.token_id) else []

    def _open_order(self, order_id: ExchangeOrderId) -> OpenOrder:
        order = self._state.exchange.order(order_id)
        assert order is not None, "listed in this very moment"
        return open_order(order, self._state.directory)

    def _own_order(self, order_id: str, member: Member) -> OrderView | None:
        order = self._state.exchange.order(ExchangeOrderId(order_id))
        return order if order is not None and order.account in self._state.accounts_of(member) else None

    async def _trades(self, request: Request, member: Member) -> Reply:
        query = request.query
        since_ns = Nanos(_seconds(query.get("after", ""), default=0) * NANOS_PER_S)
        until_ns = _seconds(query.get("before", ""), default=10**10) * NANOS_PER_S
        accounts, address = self._state.accounts_of(member), self._state.directory.address

        def asked_of(trade: Trade) -> Iterator[Trade]:
            if since_ns <= trade.matched_ns <= until_ns and _shows(trade, query.get, address):
                yield trade

        kept = await gathered(self._own_trades(query.get("id", ""), accounts, since_ns), asked_of)
        cursor, show = query.get("next_cursor", ""), partial(self._record, accounts=accounts)
        return json_response(page(kept, cursor, size=RECORDS_PER_PAGE, show=show))

    # Newest first.
    def _own_trades(self, trade_id: str, accounts: tuple[Account, ...], since_ns: Nanos) -> list[Trade]:
        engine = self._state.exchange.engine
        if trade_id:
            with suppress(KeyError):
                trade = engine.trade(TradeId(trade_id))
                return [trade] if set(parties(trade)) & set(accounts) else []
            return []
        made = {t.trade_id: t for account in accounts for t in engine.trades_of(account, since_ns)}
        return sorted(made.values(), key=lambda trade: trade.matched_ns, reverse=True)

    def _record(self, trade: Trade, accounts: tuple[Account, ...]) -> TradeRecord:
        rules = self._state.exchange.engine.rules(trade.market_id)
        return trade_record(trade, accounts, self._state.directory, rules)

    # This exchange began with V2, so no order is left from before.
    async def _pre_migration_orders(self, request: Request, _: Member) -> Reply:
        return json_response(page((), request.query.get("next_cursor", ""), size=RECORDS_PER_PAGE))

    async def _is_scoring(self, request: Request, member: Member) -> Reply:
        order_id = request.query.get("order_id", "")
        return json_response({"scoring": self._scores([order_id], member)[order_id]})

    async def _are_scoring(self, request: Request, member: Member) -> Reply:
        order_ids = decode(request.body, list[str], refusal=TEXT_PAYLOAD)
        if len(order_ids) > IDS_PER_SCORING_MAX:
            raise HttpRefusal(f"Too many orders in payload, max allowed: {IDS_PER_SCORING_MAX}")
        return json_response(self._scores(order_ids, member))

    # A market is looked at once, however many of its orders are asked for.
    def _scores(self, order_ids: list[str], member: Member) -> dict[str, bool]:
        market_of, now_ns = cache(self._scored_market), self._state.now_ns()
        orders = {order_id: self._own_order(order_id, member) for order_id in order_ids}
        return {
            order_id: order is not None and is_scoring(order, market_of(order.market_id), now_ns)
            for order_id, order in orders.items()
        }

    def _scored_market(self, market_id: MarketId) -> ScoredMarket:
        engine = self._state.exchange.engine
        rules = engine.rules(market_id)
        terms = self._state.catalog.subject(rules).rewards
        top = (None, None) if terms is None else engine.top_of_size(market_id, terms.size_min)
        return ScoredMarket(rules=rules, terms=terms, top=top)

    # --- balances ---------------------------------------------------------------------------------------------------

    async def _balance(self, request: Request, member: Member) -> Reply:
        wallet = self._asked_wallet(request, member)
        balances = self._state.exchange.shown_balances(wallet)
        asset, v3 = AssetType(request.query["asset_type"]), self._state.verifier.exchange_v3
        amount = int(balances.cash_settled)
        if asset is not AssetType.COLLATERAL:
            token_id = TokenId(request.query["token_id"])
            # A contract that does not know the token holds none of it.
            is_held_there = asset is asset_type_of(token_id)
            amount = dict(balances.tokens_settled).get(token_id, 0) if is_held_there else 0
        spenders = (v3,) if asset is AssetType.CONDITIONAL_V2 else (EXCHANGE_V2, EXCHANGE_V2_NEG_RISK)
        if asset is AssetType.COLLATERAL:
            spenders = (*spenders, v3)
        left = self._state.exchange.engine.allowances.left
        allowances = {spender: str(left(wallet, asset, spender)) for spender in spenders}
        return json_response({"balance": str(amount), "allowances": allowances})

    async def _update_balance(self, request: Request, member: Member) -> Reply:
        self._state.exchange.refresh_balances(self._asked_wallet(request, member))
        return Response(body=b"")

    def _asked_wallet(self, request: Request, member: Member) -> Account:
        query = request.query
        asset_type = query.get("asset_type")
        if asset_type not in frozenset(AssetType):
            raise HttpRefusal("Invalid asset type")
        if asset_type != AssetType.COLLATERAL and self._state.directory.rules(query.get("token_id", "")) is None:
            raise HttpRefusal("Invalid token id")
        kinds = {str(int(kind)): kind for kind in SignatureType}
        kind = kinds.get(query.get("signature_type", "0"))
        if kind is None:
            raise HttpRefusal("Invalid signature type")
        return Account(self._state.keys.wallet_of(member.address, kind))

    # --- dead-man switch --------------------------------------------------------------------------------------------

    async def _heartbeat(self, request: Request, member: Member) -> Reply:
        body = decode(request.body, Heartbeat, refusal="Invalid payload")
        given = body.heartbeat_id or ""
        if self._state.exchange.faults.on_heartbeat(member.api_key):
            self._beat(member)  # somebody else's, a moment before
        expected = self._heartbeats.expected(member.api_key)
        if given != expected:
            return json_response({"error_msg": "Invalid Heartbeat ID", "heartbeat_id": expected}, status=400)
        return json_response({"heartbeat_id": self._beat(member)})

    def _beat(self, member: Member) -> str:
        for account in self._state.accounts_of(member):
            self._state.exchange.heartbeat(account, owner=member.api_key)
        return self._heartbeats.advance(member.api_key)


class HeartbeatChains:
    """Which heartbeat id each API key must send next: every answer carries a new one, the first is empty."""

    def __init__(self) -> None:
        """Start with no chain."""
        self._beats: dict[str, int] = {}

    def expected(self, api_key: str) -> str:
        """Name the id the next heartbeat must carry; "" before the first."""
        beats = self._beats.get(api_key, 0)
        return _heartbeat_id(api_key, beats) if beats else ""

    def advance(self, api_key: str) -> str:
        """Accept a heartbeat and name the next id."""
        self._beats[api_key] = self._beats.get(api_key, 0) + 1
        return self.expected(api_key)


# A function of key and count: a replay gives the same ids, and nobody else's chain can be guessed from one's own.
def _heartbeat_id(api_key: str, beats: int) -> str:
    digest = hashlib.sha256(f"heartbeat:{api_key}:{beats}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def _key_answer(key: ApiCredentials) -> Response:
    return json_response({"apiKey": key.api_key, "secret": key.secret, "passphrase": key.passphrase})


def _shows(trade: Trade, query: Callable[[str], str | None], address: Callable[[Account], str]) -> bool:
    market, asset, maker = query("market"), query("asset_id"), query("maker_address")
    return (
        (not market or market == trade.market_id)
        and (not asset or asset in (trade.token_id, *(leg.token_id for leg in trade.legs)))
        and (not maker or maker in map(address, parties(trade)))
    )


def _seconds(text: str, *, default: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _SECONDS_DIGITS_MAX):
        raise HttpRefusal("Invalid time")
    return int(text)
