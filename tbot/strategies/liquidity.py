"""Two-sided quoting around an inventory-aware fair value.

All thinking is in YES space: the bid side buys YES or sells NO, the ask side sells YES or buys NO. Selling what we hold
comes first, because it frees capital where buying the other outcome binds more.

    fair value    microprice of the depth-qualified book
    reservation   fair value - skew; skew = (kappa ticks + gamma x sigma) x u, u = net inventory / q_max in [-1, 1]
    half-spread   max(delta_min ticks, 1 tick + c_sigma x sigma, min_edge ticks)
    quotes        reservation -/+ half-spread, rounded outward to the tick, then pushed outward to never cross and to
                  improve the best by at most max_improve ticks; so bid + (1 - ask) <= 1 - 2 x min_edge always, and a
                  completed pair earns at least that

Every rounding and clamp goes away from the market. Where a size does not fit a limit, it shrinks or is dropped. Our own
orders are part of the book we look at; below `size_qualified` they do not count as depth, so we do not chase ourselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from tbot.core.market import Market, MarketId
from tbot.core.messages import AccountView, Level, MarketView, Quotes, Side, StrategyName, Take
from tbot.core.risk import RiskLimits
from tbot.core.units import (
    MICRO,
    NANOS_PER_MS,
    NANOS_PER_S,
    Nanos,
    Notional,
    Price,
    Size,
    complement,
    dollars,
    notional_floor,
    price_clamp,
    size_lot_floor,
    tick_ceil,
    tick_floor,
)
from tbot.strategies.base import Decision, Misfit, StrategyView
from tbot.strategies.fair_value import Volatility, imbalance, microprice, qualified
from tbot.strategies.quoting import Budget, Edges, ask_edges, bid_edges, size_misfit

# A take is meant for the book it was decided on; older than this it is a different trade.
TAKE_DEADLINE_NS = NANOS_PER_S

Ticks = Annotated[int, Meta(ge=0, le=50)]
Ratio = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(gt=0, le=1)]
Milliseconds = Annotated[int, Meta(ge=50, le=60_000)]


class LiquiditySettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="liquidity"
):
    """Settings; defaults are starting points, to be moved by replay.

    Attributes:
        name: Owner of the orders.
        base_size: Size of the innermost quote, micro-shares.
        layers: Quotes a side.
        layer_growth: Each layer's size over the one before it.
        step_ticks: Distance between layers.
        chase_ticks: A resting order within this distance of its quote is left alone.
        min_edge_ticks: Least distance of a resting order from the reservation price.
        delta_min_ticks: Least half-spread.
        c_sigma: Seconds-volatility added to the half-spread.
        gamma: Seconds-volatility of skew at full inventory.
        kappa_ticks: Ticks of skew at full inventory.
        max_improve_ticks: Most ticks inside the depth-qualified best.
        q_max: Net shares that count as full inventory, micro-shares.
        soft_cap: Share of q_max from which the side that adds inventory is silent.
        size_qualified: Micro-shares a level needs to count as depth.
        price_min: Lowest fair value quoted, micro-dollars.
        price_max: Highest fair value quoted, micro-dollars.
        volatility_tau_s: Memory of the volatility.
        refresh_ms: Least time between two re-quotes of a market.
        quotes_valid_ms: Life of quotes that are not renewed.
        exit_share: Share of q_max from which inventory may be sold by taking.
        exit_imbalance: Weight of the other side over ours that counts as a market moving against us.
        exit_loss_ticks: Ticks of the closing price under the average cost that count likewise.
        hold_s: Time either must last before a take, against spoofed depth.
        cool_down_s: Least time between two takes of a market.
        close_slippage: Most a take may give up under the best bid, as a share of it.
        close_slippage_ticks: Likewise in ticks; the tighter counts.
    """

    name: Annotated[str, Meta(pattern="^[a-z][a-z0-9_-]{0,31}$")] = "liquidity"
    base_size: Annotated[Size, Meta(gt=0)] = Size(20 * MICRO)
    layers: Annotated[int, Meta(ge=1, le=10)] = 2
    layer_growth: Annotated[float, Meta(gt=0, le=5)] = 1.5
    step_ticks: Annotated[int, Meta(ge=1, le=50)] = 2
    chase_ticks: Ticks = 2
    min_edge_ticks: Ticks = 1
    delta_min_ticks: Ticks = 1
    c_sigma: Ratio = 1.2
    gamma: Ratio = 0.5
    kappa_ticks: Ticks = 2
    max_improve_ticks: Ticks = 1
    q_max: Annotated[Size, Meta(gt=0)] = Size(500 * MICRO)
    soft_cap: Share = 0.6
    size_qualified: Annotated[Size, Meta(ge=0)] = Size(50 * MICRO)
    price_min: Annotated[Price, Meta(ge=0, le=MICRO)] = Price(50_000)
    price_max: Annotated[Price, Meta(ge=0, le=MICRO)] = Price(950_000)
    volatility_tau_s: Annotated[float, Meta(gt=0)] = 10.0
    refresh_ms: Milliseconds = 500
    quotes_valid_ms: Milliseconds = 3_000
    exit_share: Share = 0.8
    exit_imbalance: Annotated[float, Meta(gt=1)] = 6.0
    exit_loss_ticks: Ticks = 3
    hold_s: Ratio = 2.0
    cool_down_s: Ratio = 5.0
    close_slippage: Annotated[float, Meta(ge=0, lt=1)] = 0.05
    close_slippage_ticks: Ticks = 3

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if self.price_min >= self.price_max:
            raise ValueError("price_min must be below price_max")
        if self.quotes_valid_ms <= self.refresh_ms:
            raise ValueError("quotes_valid_ms must be above refresh_ms, or quotes lapse between two refreshes")
        if self.exit_share < self.soft_cap:
            raise ValueError("exit_share must not be below soft_cap, to which an exit sells down")


class Liquidity:
    """The strategy. The module's header says what it wants, `LiquiditySettings` names the knobs."""

    def __init__(self, *, markets: Mapping[MarketId, Market], settings: LiquiditySettings) -> None:
        """Start without memory.

        Args:
            markets: The markets to quote, all of them.
            settings: The knobs.
        """
        self._markets = dict(markets)
        self._settings = settings
        self._memories = {market_id: _Memory(Volatility(settings.volatility_tau_s)) for market_id in markets}

    @property
    def name(self) -> StrategyName:
        """Owner of its orders."""
        return StrategyName(self._settings.name)

    @property
    def market_ids(self) -> tuple[MarketId, ...]:
        """The markets it was built with."""
        return tuple(self._markets)

    def misfit(self, market: Market, limits: RiskLimits) -> Misfit | None:
        """Say which of its quotes a market, or a limit, never takes; with inventory one side grows and one shrinks."""
        settings = self._settings
        factors = [settings.layer_growth**level for level in range(settings.layers)]
        return size_misfit(settings.base_size, factors, market, limits)

    def decide(self, view: StrategyView, now_ns: Nanos) -> Decision:
        """Quote both tokens of every market that is due, and sell off inventory that went wrong."""
        quotes: list[Quotes] = []
        takes: list[Take] = []
        for market_id, market in self._markets.items():
            memory = self._memories[market_id]
            scene = self._scene(market, view, memory)
            excess = self._excess(scene, memory, now_ns)
            if scene is not None and excess is not None:
                takes += self._exit(scene, excess, memory, now_ns)
            if now_ns >= memory.requote_ns or (scene is None and memory.is_quoting):
                quotes += self._quotes(market, scene, excess, now_ns)
                memory.is_quoting = scene is not None
                memory.requote_ns = Nanos(now_ns + self._settings.refresh_ms * NANOS_PER_MS)
        soonest = min((m.requote_ns for m in self._memories.values()), default=now_ns + NANOS_PER_S)
        return Decision(quotes=tuple(quotes), takes=tuple(takes), wake_at_ns=Nanos(soonest))

    def _scene(self, market: Market, world: StrategyView, memory: _Memory) -> _Scene | None:
        # None = nothing may rest in this market now.
        view = world.views.get(market.market_id)
        yes, no = world.accounts.get(market.yes), world.accounts.get(market.no)
        if view is None or yes is None or no is None or not _is_sound(view):
            return None
        least = self._settings.size_qualified
        bids, asks = qualified(view.bids, least), qualified(view.asks, least)
        fair = microprice(bids, asks)
        memory.volatility.observe(fair, view.at_ns)
        if not dollars(self._settings.price_min) <= fair <= dollars(self._settings.price_max):
            return None
        if not (yes.is_trading and no.is_trading and view.market.is_accepting_orders):
            return None
        return _Scene(
            market=view.market,
            view=view,
            yes=yes,
            no=no,
            bid=bids[0],
            ask=asks[0],
            fair=fair,
            sigma=memory.volatility.sigma,
        )

    def _quotes(self, market: Market, scene: _Scene | None, excess: _Excess | None, now_ns: Nanos) -> Iterator[Quotes]:
        budget = None if scene is None else self._budget(scene, excess)
        for token_id in market.tokens:
            yield Quotes(
                strategy=self.name,
                token_id=token_id,
                quotes=() if budget is None else budget.quotes(token_id),
                chase_ticks=self._settings.chase_ticks,
                valid_until_ns=Nanos(now_ns + self._settings.quotes_valid_ms * NANOS_PER_MS),
                at_ns=now_ns,
            )

    def _budget(self, scene: _Scene, excess: _Excess | None) -> Budget:
        # One market must not spend the cash of the others: the exchange would let it.
        cash = min(scene.yes.cash_free, scene.no.cash_free) // len(self._markets)
        budget = Budget(market=scene.market, accounts=(scene.yes, scene.no), cash=Notional(cash))
        if excess is not None:
            budget.reserve(excess.account.token_id, excess.size)
        bid, ask = self._edges(scene)
        fullness = scene.net / self._settings.q_max
        for level in range(self._settings.layers):
            offset = level * self._settings.step_ticks * scene.view.tick
            wanted = self._settings.base_size * self._settings.layer_growth**level
            if bid.price is not None and bid.price - offset >= scene.view.tick:
                size = int(wanted * self._taper(fullness))
                budget.bid(level=level, price=Price(bid.price - offset), worst=bid.worst, size=size)
            if ask.price is not None and ask.price + offset <= MICRO - scene.view.tick:
                size = int(wanted * self._taper(-fullness))
                budget.ask(level=level, price=Price(ask.price + offset), worst=ask.worst, size=size)
        return budget

    def _edges(self, scene: _Scene) -> tuple[Edges, Edges]:
        settings, tick = self._settings, scene.view.tick
        step = dollars(tick)
        fullness = max(-1.0, min(1.0, scene.net / settings.q_max))
        reservation = scene.fair - (settings.kappa_ticks * step + settings.gamma * scene.sigma) * fullness
        edge = settings.min_edge_ticks * step
        half = max(settings.delta_min_ticks * step, step + settings.c_sigma * scene.sigma, edge)
        improve = settings.max_improve_ticks * tick
        best_bid, best_ask = scene.view.bids[0].price, scene.view.asks[0].price
        bid = bid_edges(
            wanted=reservation - half,
            worst=reservation - edge,
            best=scene.bid,
            best_ask=best_ask,
            improve=improve,
            tick=tick,
        )
        ask = ask_edges(
            wanted=reservation + half,
            worst=reservation + edge,
            best=scene.ask,
            best_bid=best_bid,
            improve=improve,
            tick=tick,
        )
        return bid, ask

    def _taper(self, fullness: float) -> float:
        # `fullness` as the side sees it: above 0 its fills add to the inventory, below 0 they shrink it.
        if fullness <= 0:
            return 1.0 + 0.5 * min(1.0, -fullness)
        return (1.0 - fullness) ** 1.5 if fullness < self._settings.soft_cap else 0.0

    def _excess(self, scene: _Scene | None, memory: _Memory, now_ns: Nanos) -> _Excess | None:
        """Find inventory beyond the exit share in a market that moved against it; note since when it stands.

        From the first moment its shares are kept out of the quotes, so that they are free when the hold has passed.
        """
        excess = None if scene is None else self._gone_wrong(scene)
        if excess is None:
            memory.adverse_ns = None
        elif memory.adverse_ns is None:
            memory.adverse_ns = now_ns
        return excess

    def _gone_wrong(self, scene: _Scene) -> _Excess | None:
        settings = self._settings
        if abs(scene.net) <= settings.exit_share * settings.q_max:
            return None
        is_long_yes = scene.net > 0
        account = scene.yes if is_long_yes else scene.no
        best = scene.view.bids[0].price if is_long_yes else complement(scene.view.asks[0].price)
        heavier = imbalance(scene.view) if is_long_yes else 1 / max(imbalance(scene.view), 1e-9)
        is_losing = best < account.entry - settings.exit_loss_ticks * scene.view.tick
        if not is_losing and heavier * settings.exit_imbalance > 1:
            return None
        beyond = abs(scene.net) - int(settings.soft_cap * settings.q_max)
        size = size_lot_floor(max(0, min(beyond, account.size_sellable)), scene.market.size_lot)
        return _Excess(account=account, best=best, size=size, reason="loss" if is_losing else "imbalance")

    def _exit(self, scene: _Scene, excess: _Excess, memory: _Memory, now_ns: Nanos) -> Iterator[Take]:
        settings, market, tick = self._settings, scene.market, scene.view.tick
        is_held = memory.adverse_ns is not None and now_ns - memory.adverse_ns >= settings.hold_s * NANOS_PER_S
        is_cool = memory.take_ns is None or now_ns - memory.take_ns >= settings.cool_down_s * NANOS_PER_S
        best = tick_floor(excess.best, tick)
        by_share = tick_ceil(math.ceil(excess.best * (1 - settings.close_slippage)), tick)
        worst = price_clamp(min(best, max(best - settings.close_slippage_ticks * tick, by_share)), tick)
        is_large = excess.size >= market.size_min and notional_floor(worst, excess.size) >= market.notional_min
        if not (is_held and is_cool and is_large):
            return
        memory.take_ns = now_ns
        yield Take(
            strategy=self.name,
            token_id=excess.account.token_id,
            side=Side.SELL,
            size=excess.size,
            price_worst=worst,
            deadline_ns=Nanos(now_ns + TAKE_DEADLINE_NS),
            reason=f"inventory exit: {excess.reason}",
            at_ns=now_ns,
        )


class _Memory:
    """What is remembered of one market from decision to decision."""

    __slots__ = ("adverse_ns", "is_quoting", "requote_ns", "take_ns", "volatility")

    def __init__(self, volatility: Volatility) -> None:
        self.volatility = volatility
        self.requote_ns = Nanos(0)
        self.is_quoting = False
        self.adverse_ns: Nanos | None = None
        self.take_ns: Nanos | None = None


class _Scene(msgspec.Struct, frozen=True, kw_only=True):
    """A quotable market at one moment; `bid` and `ask` are the best levels that are large enough to follow."""

    market: Market
    view: MarketView
    yes: AccountView
    no: AccountView
    bid: Level
    ask: Level
    fair: float
    sigma: float

    @property
    def net(self) -> int:
        # Complete pairs are cash, whatever happens: only the difference is inventory.
        return self.yes.size - self.no.size


class _Excess(msgspec.Struct, frozen=True, kw_only=True):
    """Inventory to be sold off: whose, at which best bid of its own token, how much of it can be sold, and why."""

    account: AccountView
    best: Price
    size: Size
    reason: str


def _is_sound(view: MarketView) -> bool:
    return not view.is_stale and bool(view.bids and view.asks) and view.bids[0].price < view.asks[0].price
