"""The hand of the operator: what a chain or the exchange's staff would do. For play; offered on loopback only.

Every body names amounts as decimals in text, dollars or shares; every answer is `{"ok": true}`, with its ids where a
market is listed, or the usual error.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from eth_utils.address import to_checksum_address

from tbot.core.market import MarketId
from tbot.core.units import MICRO, NANOS_PER_S, Notional, Price, Size, micro_from_text
from tbot.exchanges.simulated.allowances import UNLIMITED
from tbot.exchanges.simulated.contracts import EXCHANGE_V2, EXCHANGE_V2_NEG_RISK, AssetType
from tbot.exchanges.simulated.fault_catalogue import CATALOGUE, Fault
from tbot.exchanges.simulated.fault_switches import FOREVER_NS, FaultOrder
from tbot.exchanges.simulated.http import HttpRefusal, Reply, Request, Routes, json_response
from tbot.exchanges.simulated.listing import check_market
from tbot.exchanges.simulated.new_markets import Listed, ListOrder
from tbot.exchanges.simulated.operations import (
    Account,
    Approve,
    CloseMarket,
    ConvertPositions,
    Deposit,
    MergePair,
    Mode,
    OpenMarket,
    Operation,
    PauseMarket,
    RedeemTokens,
    Refused,
    ReopenMarket,
    ResolveMarket,
    SplitPair,
)
from tbot.exchanges.simulated.quota import Tier
from tbot.exchanges.simulated.rest_geoblock import PlaceSettings
from tbot.exchanges.simulated.standing import Standing, Terms
from tbot.exchanges.simulated.state import ServerState
from tbot.exchanges.simulated.wire_in import AMOUNT_END, Address, decode

T = TypeVar("T")

TEXT_CONTROL = "Invalid control payload"
MARKET_CHANGES: dict[str, type[ReopenMarket | PauseMarket | CloseMarket]] = {
    "open": ReopenMarket,
    "paused": PauseMarket,
    "closed": CloseMarket,
}
PAYOUTS = {"YES": Price(MICRO), "NO": Price(0), "50-50": Price(MICRO // 2)}

Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]


class DepositOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `deposit`; a negative amount withdraws."""

    account: Address
    cash: str


class PairOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `split` and `merge`."""

    account: Address
    market: str
    size: str


class ConvertOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `convert`: NO of these markets, all of one event, becomes YES of the event's others."""

    account: Address
    markets: list[str]
    size: str


class RedeemOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `redeem`: everything the account can spend of a resolved market."""

    account: Address
    market: str


class ResolveOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `resolve`. When an outcome of an event wins, all others of the event lose."""

    market: str
    outcome: Literal["YES", "NO", "50-50"]


class MarketOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `market`: whether it takes orders; a closed one loses those that rest, a paused one does not."""

    market: str
    state: Literal["open", "paused", "closed"]


class ModeOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `mode`."""

    mode: Mode


class RestartOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `restart`: how long nothing goes, and how long only post-only orders go after that."""

    restarting_s: Seconds = 90.0
    post_only_s: Seconds = 120.0


class TierOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `tier`: the rate limits of one signer."""

    account: Address
    tier: Tier


class StandingOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `standing`: what one address of API keys may do from now on."""

    account: Address
    standing: Standing = Standing.NORMAL
    needs_deposit_wallet: bool = False


class AllowanceOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `allowance`.

    Attributes:
        account: The wallet that holds the asset.
        spender: Contract that may move it; None = each exchange contract.
        allowance: Dollars, or "max"; of tokens "0" or "max".
    """

    account: Address
    asset_type: AssetType
    allowance: str
    spender: Address | None = None


class FaultEnd(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `DELETE /control/fault`."""

    name: Fault


class SwitchShown(msgspec.Struct, frozen=True, kw_only=True):
    """One switch that is on.

    Attributes:
        left: How often it strikes yet; None = without limit.
        left_s: Seconds until it ends by itself; None = it does not.
    """

    target: str
    left: int | None
    left_s: float | None


class FaultShown(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the catalogue as it stands."""

    name: Fault
    does: str
    report: str
    ends: str
    strikes_at: str
    target: str
    rate: float
    count: int
    on: tuple[SwitchShown, ...]


class ControlRoutes:
    """What no client of the real exchange can ask for."""

    def __init__(self, state: ServerState) -> None:
        """Control this server's exchange."""
        self._state = state

    def routes(self) -> Routes:
        """Give the routing table."""
        return {
            ("POST", "/control/deposit"): self._deposit,
            ("POST", "/control/split"): self._split,
            ("POST", "/control/merge"): self._merge,
            ("POST", "/control/resolve"): self._resolve,
            ("POST", "/control/redeem"): self._redeem,
            ("POST", "/control/convert"): self._convert,
            ("POST", "/control/list"): self._list_market,
            ("POST", "/control/market"): self._change_market,
            ("POST", "/control/mode"): self._mode,
            ("POST", "/control/restart"): self._restart,
            ("POST", "/control/tier"): self._tier,
            ("POST", "/control/place"): self._place,
            ("POST", "/control/standing"): self._standing,
            ("POST", "/control/allowance"): self._allowance,
            ("POST", "/control/fault"): self._begin_fault,
            ("DELETE", "/control/fault"): self._end_fault,
            ("GET", "/control/faults"): self._list_faults,
        }

    async def _deposit(self, request: Request) -> Reply:
        body = _read(request, DepositOrder)
        return self._done(Deposit(account=_account(body.account), cash=Notional(_micro(body.cash))))

    async def _split(self, request: Request) -> Reply:
        body = _read(request, PairOrder)
        size = Size(_micro(body.size))
        return self._done(SplitPair(account=_account(body.account), market_id=self._market(body.market), size=size))

    async def _merge(self, request: Request) -> Reply:
        body = _read(request, PairOrder)
        size = Size(_micro(body.size))
        return self._done(MergePair(account=_account(body.account), market_id=self._market(body.market), size=size))

    async def _convert(self, request: Request) -> Reply:
        body = _read(request, ConvertOrder)
        market_ids = tuple(self._market(market) for market in body.markets)
        size = Size(_micro(body.size))
        return self._done(ConvertPositions(account=_account(body.account), market_ids=market_ids, size=size))

    async def _redeem(self, request: Request) -> Reply:
        body = _read(request, RedeemOrder)
        return self._done(RedeemTokens(account=_account(body.account), market_id=self._market(body.market)))

    async def _resolve(self, request: Request) -> Reply:
        body = _read(request, ResolveOrder)
        market_id, payout = self._market(body.market), PAYOUTS[body.outcome]
        answer = self._done(ResolveMarket(market_id=market_id, yes_payout=payout))
        if body.outcome == "YES":
            for loser in self._rivals(market_id):
                self._state.exchange.apply(ResolveMarket(market_id=loser, yes_payout=Price(0)))
        return answer

    async def _list_market(self, request: Request) -> Reply:
        body = _read(request, ListOrder)
        exchange = self._state.exchange
        try:
            rules = body.rules()
            check_market(rules)
        except ValueError as error:
            raise HttpRefusal(f"{TEXT_CONTROL}: {error}") from error
        # An event's too: whoever asked for the event by its slug would get this market's words.
        if any(rules.slug in (market.slug, market.event) for market in exchange.markets()):
            raise HttpRefusal(f"{TEXT_CONTROL}: a market or event {rules.slug!r} is listed already")
        self._done(OpenMarket(rules=rules))
        self._state.catalog.describe(body.description(self._state.now_ns()))
        return json_response(Listed(market=rules.market_id, yes=rules.yes, no=rules.no))

    async def _change_market(self, request: Request) -> Reply:
        body = _read(request, MarketOrder)
        return self._done(MARKET_CHANGES[body.state](market_id=self._market(body.market)))

    async def _mode(self, request: Request) -> Reply:
        self._state.modes.hold(_read(request, ModeOrder).mode)
        return _ok()

    async def _restart(self, request: Request) -> Reply:
        body = _read(request, RestartOrder)
        now_ns = self._state.now_ns()
        self._state.modes.restart(now_ns, restarting_s=body.restarting_s, post_only_s=body.post_only_s)
        return _ok()

    async def _tier(self, request: Request) -> Reply:
        body = _read(request, TierOrder)
        self._state.quotas.set_tier(_account(body.account), body.tier)
        return _ok()

    async def _place(self, request: Request) -> Reply:
        self._state.place.told = _read(request, PlaceSettings)
        return _ok()

    async def _standing(self, request: Request) -> Reply:
        body = _read(request, StandingOrder)
        terms = Terms(standing=body.standing, needs_deposit_wallet=body.needs_deposit_wallet)
        self._state.standings.set(_account(body.account), terms)
        return _ok()

    async def _allowance(self, request: Request) -> Reply:
        body = _read(request, AllowanceOrder)
        amount = UNLIMITED if body.allowance == "max" else _micro(body.allowance)
        is_partial = 0 < amount < UNLIMITED
        if amount < 0 or (is_partial and body.asset_type is not AssetType.COLLATERAL):
            expected = "an allowance of dollars or max, of tokens 0 or max"
            raise HttpRefusal(f"{TEXT_CONTROL}: expected {expected}; found {body.allowance!r}")
        exchanges = (EXCHANGE_V2, EXCHANGE_V2_NEG_RISK, self._state.verifier.exchange_v3)
        for spender in (_account(body.spender),) if body.spender else exchanges:
            self._state.exchange.apply(
                Approve(account=_account(body.account), asset=body.asset_type, spender=spender, amount=str(amount))
            )
        return _ok()

    async def _begin_fault(self, request: Request) -> Reply:
        order = _read(request, FaultOrder)
        try:
            self._state.exchange.misbehave(order)
        except ValueError as error:
            raise HttpRefusal(str(error)) from error
        return _ok()

    async def _end_fault(self, request: Request) -> Reply:
        self._state.exchange.behave(_read(request, FaultEnd).name)
        return _ok()

    async def _list_faults(self, _: Request) -> Reply:
        return json_response([self._shown(fault) for fault in CATALOGUE])

    def _shown(self, fault: Fault) -> FaultShown:
        faults, entry, now_ns = self._state.exchange.faults, CATALOGUE[fault], self._state.now_ns()
        on = tuple(
            SwitchShown(
                target=switch.target,
                left=switch.left,
                left_s=None if switch.until_ns >= FOREVER_NS else max(switch.until_ns - now_ns, 0) / NANOS_PER_S,
            )
            for switch in faults.switches.of(fault)
        )
        return FaultShown(
            name=fault,
            does=entry.does,
            report=entry.report,
            ends=entry.ends,
            strikes_at=entry.draw,
            target=entry.aim,
            rate=getattr(faults.settings, entry.rate),
            count=faults.faults_injected.get(fault, 0),
            on=on,
        )

    def _rivals(self, market_id: MarketId) -> list[MarketId]:
        """Name the other outcomes of a market's event that are still open."""
        event = self._state.exchange.engine.rules(market_id).event
        markets = self._state.exchange.markets() if event else ()
        return [m.market_id for m in markets if m.event == event and m.yes_payout is None]

    def _market(self, market_id: str) -> MarketId:
        if self._state.directory.market(market_id) is None:
            raise HttpRefusal("market not found", status=404)
        return MarketId(market_id)

    def _done(self, operation: Operation) -> Reply:
        reply = self._state.exchange.apply(operation)
        if isinstance(reply, Refused):
            raise HttpRefusal(reply.text)
        return _ok()


def _ok() -> Reply:
    return json_response({"ok": True})


def _account(address: str) -> Account:
    return Account(to_checksum_address(address))


# The operator is told what is wrong, unlike a stranger.
def _read(request: Request, kind: type[T]) -> T:
    try:
        return decode(request.body, kind, refusal=TEXT_CONTROL)
    except HttpRefusal as refusal:
        raise HttpRefusal(f"{TEXT_CONTROL}: {refusal.__cause__}") from refusal


def _micro(text: str) -> int:
    try:
        amount = micro_from_text(text)
    except ValueError:
        amount = AMOUNT_END
    if abs(amount) >= AMOUNT_END:
        raise HttpRefusal(f"{TEXT_CONTROL}: expected an amount such as 12.5, found {text!r}")
    return amount
