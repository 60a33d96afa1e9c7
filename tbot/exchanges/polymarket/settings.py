"""Where the exchange is, which wallet trades, and how long we wait; never a secret."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from tbot.errors import ConfigError
from tbot.exchanges.polymarket.hosts import OFFICIAL, check_addresses, is_on_this_machine
from tbot.exchanges.polymarket.listings import clob_spelling, is_condition_id

GEOBLOCK_URL: Final = "https://polymarket.com/api/geoblock"

Seconds = Annotated[float, msgspec.Meta(gt=0, le=120)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=10_000)]
Slug = Annotated[str, msgspec.Meta(pattern="^[0-9a-zA-Z._-]{1,200}$")]
Address = Annotated[str, msgspec.Meta(pattern="^(0x[0-9a-fA-F]{40})?$")]


class TimeoutSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of every wait, in seconds.

    Attributes:
        connect_s: Opening one TCP or TLS connection.
        read_s: Between two pieces of an answer.
        write_s: Between two pieces of a request.
        pool_s: For a free connection of the pool.
        order_s: A whole submit or cancel; afterwards its outcome is unknown.
        read_total_s: A whole read request.
        handshake_s: Opening a socket, subscription included.
        ping_s: Between two PINGs; the exchange drops a connection that sends none for a little more than 10 s.
        silence_s: A socket on which nothing at all arrives for this long is dead.
        patience_s: A cancel or read waits at most this long at the rate gate.
    """

    connect_s: Seconds = 2.0
    read_s: Seconds = 5.0
    write_s: Seconds = 2.0
    pool_s: Seconds = 1.0
    order_s: Seconds = 6.0
    read_total_s: Seconds = 10.0
    handshake_s: Seconds = 10.0
    ping_s: Seconds = 10.0
    silence_s: Seconds = 25.0
    patience_s: Seconds = 2.0


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Request rates we allow ourselves; the defaults are the exchange's Standard tier (read 2026-11-22).

    Those of orders and cancels that stand at their default follow the tier that the exchange tells; any other value is
    an upper limit whatever it tells.

    Attributes:
        orders_per_s: Refill of the order bucket.
        orders_burst: Its capacity.
        cancels_per_s: Refill of the cancel bucket, one token an order id.
        cancels_burst: Its capacity; a batch that costs more could never pass.
        reads_per_s: Refill of the read bucket; far below the limits per address, which other programs share.
        reads_burst: Its capacity.
        cancels_reserve: Orders wait while fewer cancel tokens than this are left: what is placed can be cancelled.
    """

    orders_per_s: Rate = 40.0
    orders_burst: Rate = 60.0
    cancels_per_s: Rate = 80.0
    cancels_burst: Rate = 120.0
    reads_per_s: Rate = 20.0
    reads_burst: Rate = 60.0
    cancels_reserve: Rate = 20.0


class PolymarketSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the Polymarket gateway.

    Attributes:
        condition_ids: The markets to trade, by condition id; a short one, as the catalogue spells those of V2, is made
            long when the settings are read.
        slugs: More markets to trade, by the short name that `tbot markets` shows; looked up at the start.
        rest_url: Base address of the CLOB, without a slash at the end.
        ws_market_url: Address of the market channel.
        ws_user_url: Address of the user channel.
        geoblock_url: Asked before trading whether this place may trade; another than the official one, or "" for
            none, only with an exchange on this machine.
        relayer_url: Asked by `tbot doctor` whether the wallet's contract exists; "" = nobody to ask.
        gamma_url: Address of the catalogue, which knows markets by name.
        chain_id: 137 in production, 80002 on the test chain.
        signature_type: 0 EOA, 1 proxy, 2 safe, 3 deposit wallet.
        funder: The wallet that holds the money; "" = the key's own address (type 0 only).
        hosts_allowed: Hosts beside this machine that may get our requests, always over TLS.
        timeouts: Bounds of every wait.
        limits: Request rates.
    """

    condition_ids: tuple[str, ...] = ()
    slugs: tuple[Slug, ...] = ()
    rest_url: str = "https://clob.polymarket.com"
    ws_market_url: str = "wss://ws-subscriptions-clob.polymarket.com/ws/market"
    ws_user_url: str = "wss://ws-subscriptions-clob.polymarket.com/ws/user"
    geoblock_url: str = GEOBLOCK_URL
    relayer_url: str = "https://relayer-v2.polymarket.com"
    gamma_url: str = "https://gamma-api.polymarket.com"
    chain_id: int = 137
    signature_type: Annotated[int, msgspec.Meta(ge=0, le=3)] = 0
    funder: Address = ""
    hosts_allowed: tuple[str, ...] = OFFICIAL
    timeouts: TimeoutSettings = TimeoutSettings()
    limits: LimitSettings = LimitSettings()

    def __post_init__(self) -> None:
        """Spell every condition id as the CLOB does.

        Raises:
            ValueError: One of them is no condition id.
        """
        for name in self.condition_ids:
            if not is_condition_id(name):
                raise ValueError(
                    "condition_ids: expected 0x and 64 hex digits, or the 62 of the catalogue for a market of V2 "
                    f"(tbot markets show NAME tells it), found {name[:80]!r}"
                )
        msgspec.structs.force_setattr(self, "condition_ids", tuple(map(clob_spelling, self.condition_ids)))

    def check_reach(self) -> None:
        """Refuse addresses that must not get our requests; before real sockets are opened.

        Raises:
            ConfigError: A host that is not allowed, one reached without TLS, or an exchange beyond this machine without
                the official question whether this place may trade.
        """
        check_addresses(
            {
                "rest_url": self.rest_url,
                "ws_market_url": self.ws_market_url,
                "ws_user_url": self.ws_user_url,
                "geoblock_url": self.geoblock_url,
                "relayer_url": self.relayer_url,
                "gamma_url": self.gamma_url,
            },
            self.hosts_allowed,
        )
        # Whoever could point the question elsewhere could answer it: a blocked place refuses, whatever a file says.
        if self.geoblock_url != GEOBLOCK_URL and not is_on_this_machine(self.rest_url):
            raise ConfigError(
                f"geoblock_url: expected {GEOBLOCK_URL} for an exchange beyond this machine, "
                f"found {self.geoblock_url[:80]!r}"
            )
