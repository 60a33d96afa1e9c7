"""Two-sided quoting around an inventory-aware fair value.

All thinking is in YES space: the bid side buys YES or sells NO, the ask side sells YES or buys NO. Selling what we hold
comes first, because it frees capital where buying the other outcome binds more.

    fair value    microprice of the depth-qualified book
    reservation   fair value - skew; skew = (kappa ticks + gamma x sigma) x u, u = net inventory / q_max in [-1, 1]
    half-spread   max(delta_min ticks, 1 tick + c_sigma x sigma, min_edge ticks)
    quotes        reservation -/+ half-spread, rounded outward to the tick, then pushed outward to never cross and to
                  improve the best by at most max_improve ticks; so bid + (1 - ask) <= 1 - 2 x min_edge always, and a
                  completed pair earns at least that

Every rounding and clamp goes away from the market. Where a size does not fit a limit, it shrinks or is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import AccountView, MarketView, Quote, Quotes, Side, StrategyName, Take
from tbot.core.units import (
    MICRO,
    NANOS_PER_MS,
    NANOS_PER_S,
    Nanos,
    Price,
    Size,
    complement,
    notional_floor,
    price_clamp,
    price_of_estimate_ceil,
    price_of_estimate_floor,
    size_lot_floor,
    tick_ceil,
    tick_floor,
)
from tbot.strategies.base import Decision, StrategyView
from tbot.strategies.fair_value import Volatility, imbalance, in_dollars, microprice, qualified

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

    name: str = "liquidity"
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
    """The strategy. See the module's header for what it wants, `LiquiditySettings` for the knobs."""

    def __init__(self, *, markets: Mapping[MarketId, Market], settings: LiquiditySettings) -> None:
        """Start without memory.

        Args:
            markets: The markets to quote, all of them.
            settings: The knobs.
        """
        self._markets = dict(markets)
        self._settings = settings
        self._memories = {market_id: _Memory(settings.volatility_tau_s) for market_id in markets}

    @property
    def name(self) -> StrategyName:
        """Owner of its orders."""
        return StrategyName(self._settings.name)

    @property
    def market_ids(self) -> tuple[MarketId, ...]:
        """The markets it was built with."""
        return tuple(self._markets)

    def decide(self, view: StrategyView, now_ns: Nanos) -> Decision:
        """Quote both tokens of every market that is due, and sell off inventory that went wrong."""
        quotes: list[Quotes] = []
        takes: list[Take] = []
        for market_id, market in self._markets.items():
            memory = self._memories[market_id]
            scene = self._scene(market, view, memory)
            if scene is not None:
                takes += self._exit(scene, memory, now_ns)
            if now_ns >= memory.requote_ns or (scene is None and memory.is_quoting):
                quotes += self._quotes(market, scene, now_ns)
                memory.is_quoting = scene is not None
                memory.requote_ns = Nanos(now_ns + self._settings.refresh_ms * NANOS_PER_MS)
        soonest = min((m.requote_ns for m in self._memories.values()), default=now_ns + NANOS_PER_S)
        return Decision(quotes=tuple(quotes), takes=tuple(takes), wake_at_ns=Nanos(soonest))

    def _scene(self, market: Market, world: StrategyView, memory: _Memory) -> _Scene | None:
        """Gather what a quotable market looks like; None = nothing may rest there."""
        view = world.views.get(market.market_id)
        yes, no = world.accounts.get(market.yes), world.accounts.get(market.no)
        if view is None or yes is None or no is None or not _is_sound(view):
            return memory.calm()
        fair = microprice(*self._depth(view))
        memory.volatility.observe(fair, view.at_ns)
        if not in_dollars(self._settings.price_min) <= fair <= in_dollars(self._settings.price_max):
            return memory.calm()
        if not (yes.is_trading and no.is_trading and market.is_accepting_orders):
            return memory.calm()
        scene = _Scene(market=market, view=view, yes=yes, no=no, fair=fair, sigma=memory.volatility.sigma)
        memory.watch(view.at_ns, is_adverse=self._is_adverse(scene))
        return scene

    def _depth(self, view: MarketView) -> tuple[Sequence[Level], Sequence[Level]]:
        least = self._settings.size_qualified
        return qualified(view.bids, least), qualified(view.asks, least)
