"""The exchange's hash of a whole book: what it covers, and how to try several guesses of one value cheaply.

The rule is SHA-1 over the compact JSON of the book, hash field empty, keys in a fixed order (py-clob-client,
`generate_orderbook_summary_hash`, read 2026-11-22). Frames that follow a trade leave out four values that the hash
covers: minimum size, tick, neg-risk and the market's last trade. They stand at the end of the text, so `HashStem`
hashes the levels once and each guess of those values costs only their few bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import Level
from tbot.core.units import Price, Size, text_from_micro


class HashRule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The values of a market that its books' hashes cover and most frames leave out.

    Attributes:
        size_min: Smallest limit order of the market, micro-shares.
        is_neg_risk: Whether the market is neg-risk.
        version: Protocol version when the exchange's books name one ("v2"), else "".
        last_trade_text: Last trade of the market as the exchange writes it ("0.130"), "" before the first.
    """

    size_min: Size
    is_neg_risk: bool = False
    version: str = ""
    last_trade_text: str = ""


class HashStem:
    """A book hashed up to its levels; `digest` adds a guess of the rest."""

    def __init__(self, market_id: MarketId, token_id: TokenId, exchange_ms: int, bids: bytes, asks: bytes) -> None:
        """Hash the levels.

        Args:
            market_id: Condition id.
            token_id: The token.
            exchange_ms: Time of the book; the hash covers it.
            bids: `level_text` of each level, joined by commas, ascending by price: best last.
            asks: Likewise, descending by price: best last.
        """
        # The ids are quoted by the encoder: they come from outside and may hold anything.
        ids = msgspec.json.encode({"market": market_id, "asset_id": token_id, "timestamp": str(exchange_ms)})
        text = b'%s,"hash":"","bids":[%s],"asks":[%s],"min_order_size":"' % (
            ids[:-1],
            bids,
            asks,
        )
        # An integrity check against accidents, chosen by the exchange; nothing is signed with it.
        self._hash = hashlib.sha1(text, usedforsecurity=False)

    def digest(self, rule: HashRule, tick: Price) -> str:
        """Return the hash, 40 hexadecimal digits, if these were the values left out; about 1 us.

        Args:
            rule: The market's values.
            tick: Tick in force, micro-dollars.
        """
        whole = self._hash.copy()
        whole.update(_tail(rule.size_min, tick, rule.is_neg_risk))
        whole.update(_ending(rule.last_trade_text, rule.version))
        return whole.hexdigest()


def book_hash(
    *,
    market_id: MarketId,
    token_id: TokenId,
    exchange_ms: int,
    bids: Sequence[Level],
    asks: Sequence[Level],
    size_min: Size,
    tick: Price,
    is_neg_risk: bool,
    last_trade_text: str,
    version: str = "",
) -> str:
    """Compute the exchange's hash of a whole book whose values are all known.

    Args:
        market_id: Condition id.
        token_id: The token.
        exchange_ms: Time of the book; the hash covers it.
        bids: Ascending by price: best last.
        asks: Descending by price: best last.
        size_min: Smallest limit order of the market, micro-shares.
        tick: Tick in force, micro-dollars.
        is_neg_risk: Whether the market is neg-risk.
        last_trade_text: As sent, trailing zeros included; "" before the first trade.
        version: Last key, left out when "".

    Returns:
        40 hexadecimal digits.
    """
    rule = HashRule(size_min=size_min, is_neg_risk=is_neg_risk, version=version, last_trade_text=last_trade_text)
    texts = (b",".join(level_text(level.price, level.size) for level in side) for side in (bids, asks))
    return HashStem(market_id, token_id, exchange_ms, *texts).digest(rule, tick)


def level_text(price: Price, size: Size) -> bytes:
    """Write one level as the exchange does."""
    return b'{"price":"%s","size":"%s"}' % (text_from_micro(price).encode(), text_from_micro(size).encode())


@lru_cache(maxsize=4_096)
def _tail(size_min: Size, tick: Price, is_neg_risk: bool) -> bytes:
    flag = b"true" if is_neg_risk else b"false"
    size, step = text_from_micro(size_min).encode(), text_from_micro(tick).encode()
    return b'%s","tick_size":"%s","neg_risk":%s,"last_trade_price":' % (size, step, flag)


@lru_cache(maxsize=4_096)
def _ending(last_trade_text: str, version: str) -> bytes:
    # Both are text from outside: quoted by the encoder.
    end = b',"version":%s' % msgspec.json.encode(version) if version else b""
    return msgspec.json.encode(last_trade_text) + end + b"}"
