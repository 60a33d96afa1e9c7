"""The start-up probe: before trading, our signing must equal the official clients' byte for byte.

The reference runs in a worker process that is given the public test key, and nothing else: its environment is empty, so
it cannot inherit a secret of ours, and it is started by path in isolated mode, so it shares no code or state with the
bot. (anyio's pooled workers would inherit the whole environment; hence a process of its own, about one second.) Our
side runs the very code that trades, over the same test key. A byte of difference means that orders would be refused
or, worse, be other orders than we think: trading does not start.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final

import anyio
import msgspec

from tbot.core.book_hash import book_hash
from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import Level, OrderType, Side
from tbot.core.units import Price, Size, micro_from_text
from tbot.errors import AuthenticationFailed, ConfigError
from tbot.exchanges.polymarket.amounts import amounts_of
from tbot.exchanges.polymarket.auth import RequestSigner, l1_headers
from tbot.exchanges.polymarket.keys import (
    TEST_KEY_HEX,
    ApiCredentials,
    SigningKey,
    address_bytes,
    checksum_address,
)
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.polymarket.signing import OrderSigner, exchange_contract

REFERENCE: Final = Path(__file__).with_name("reference.py")
PROBE_S_MAX: Final = 30.0  # it takes 1.5 s; on a machine that needs longer nothing else would work either

_TOKEN: Final = "71321045679252212594626385532706912750332728571942532289631379312455583992563"
_POSITION: Final = "663574927012476832975694178961957910328055987427402067619466963999000625152"
_OWNER: Final = "11111111-2222-4333-8444-555555555555"
_PARTS = msgspec.json.Decoder(dict[str, str])


class ProbeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One order to sign; price and size as text, because the official client computes in floats.

    Attributes:
        protocol: What the reference is told to sign for; our side finds out from the token.
    """

    name: str
    side: Side
    price: str
    size: str
    tick: str
    is_neg_risk: bool
    protocol: int = 2
    salt: int = 479249096354
    timestamp_ms: int = 1767225600000
    token_id: str = _TOKEN


class ProbeL2(msgspec.Struct, frozen=True, kw_only=True):
    """One request to sign, with a secret made up for the purpose."""

    secret: str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    method: str = "DELETE"
    path: str = "/order"
    body: str = '{"orderID":"0xabc"}'


class ProbeBook(msgspec.Struct, frozen=True, kw_only=True):
    """One book to hash, in the words of the wire."""

    market: str = "0x" + "ab" * 32
    asset_id: str = _TOKEN
    timestamp: str = "1767225600000"
    bids: tuple[tuple[str, str], ...] = (("0.4", "10"), ("0.45", "12.5"))
    asks: tuple[tuple[str, str], ...] = (("0.6", "78"), ("0.55", "0.01"))
    min_order_size: str = "5"
    tick_size: str = "0.01"
    neg_risk: bool = False
    last_trade_price: str = "0.040"


class ProbeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything both sides compute from.

    Attributes:
        key: The public test key; never another.
        funder: The configured wallet (an address is no secret), with checksum capitals; "" = the key's own.
    """

    chain_id: int
    signature_type: int
    funder: str
    orders: tuple[ProbeOrder, ...]
    key: str = TEST_KEY_HEX
    owner: str = _OWNER
    timestamp_s: int = 1767225600
    l2: ProbeL2 = ProbeL2()
    book: ProbeBook = ProbeBook()


Parts = dict[str, str]


async def check_conformance(
    settings: PolymarketSettings, *, ours: Callable[[ProbeRequest], Parts] | None = None
) -> tuple[str, ...]:
    """Compare our signing with the official clients', for the configured chain and kind of wallet.

    Needs real time: not for a virtual clock.

    Args:
        settings: Chain, signature type and funder are probed as configured.
        ours: Our side; for tests that sabotage it.

    Returns:
        The names of the parts compared.

    Raises:
        AuthenticationFailed: A byte differs; the message names the part.
        ConfigError: The reference could not be run.
    """
    request = probe_request(settings)
    theirs = await _run_reference(request)
    mine = (ours or probe_ours)(request)
    for part, expected in theirs.items():
        if mine.get(part) != expected:
            raise AuthenticationFailed(f"signing probe: {part} differs from the official client's; not trading")
    if len(mine) != len(theirs):
        raise AuthenticationFailed("signing probe: the official clients did not compute every part; not trading")
    return tuple(theirs)


def probe_request(settings: PolymarketSettings) -> ProbeRequest:
    """Choose what to compute: every contract an order can be for, both sides and three ticks.

    All contracts are probed whatever is configured: the markets change while the bot runs, and an order costs no time.
    """
    is_own = settings.signature_type == 0
    return ProbeRequest(
        chain_id=settings.chain_id,
        signature_type=settings.signature_type,
        # A funder of type 0 is the live key's own address, which the test key cannot sign for.
        funder="" if is_own else checksum_address(address_bytes(settings.funder)),
        orders=(
            ProbeOrder(name="buy", side=Side.BUY, price="0.56", size="21.04", tick="0.01", is_neg_risk=False),
            ProbeOrder(name="sell neg-risk", side=Side.SELL, price="0.563", size="5", tick="0.001", is_neg_risk=True),
            ProbeOrder(
                name="buy position",
                side=Side.BUY,
                price="0.5625",
                size="7.5",
                tick="0.0025",
                is_neg_risk=True,  # which must change nothing
                protocol=3,
                token_id=_POSITION,
            ),
        ),
    )


def is_probed(market: Market, settings: PolymarketSettings) -> bool:
    """Tell whether the probe covers the contract that orders of a market are signed for."""
    chain_id = settings.chain_id
    probed = {
        exchange_contract(TokenId(order.token_id), is_neg_risk=order.is_neg_risk, chain_id=chain_id)
        for order in probe_request(settings).orders
    }
    return all(
        exchange_contract(token, is_neg_risk=market.is_neg_risk, chain_id=chain_id) in probed for token in market.tokens
    )


def probe_ours(request: ProbeRequest) -> Parts:
    """Compute every part on the path that trades."""
    key = SigningKey.from_hex(request.key)
    signer = OrderSigner(
        key,
        chain_id=request.chain_id,
        owner=request.owner,
        signature_type=request.signature_type,
        funder=request.funder,
    )
    parts: Parts = {}
    for order in request.orders:
        parts |= _order_parts(signer, order)
    l2 = request.l2
    credentials = ApiCredentials(api_key=request.owner, secret=l2.secret, passphrase="")
    headers = RequestSigner(key.address, credentials).headers(
        l2.method, l2.path, l2.body.encode(), timestamp_s=request.timestamp_s
    )
    l1 = l1_headers(key, chain_id=request.chain_id, timestamp_s=request.timestamp_s)
    return parts | {
        "L1 signature": l1["POLY_SIGNATURE"],
        "L2 signature": headers["POLY_SIGNATURE"],
        "book hash": _book_hash(request.book),
    }


def _order_parts(signer: OrderSigner, order: ProbeOrder) -> Parts:
    price, size = Price(micro_from_text(order.price)), Size(micro_from_text(order.size))
    tick = Price(micro_from_text(order.tick))
    signed = signer.sign(
        token_id=TokenId(order.token_id),
        side=order.side,
        amounts=amounts_of(order_type=OrderType.GTC, side=order.side, price=price, size=size, tick=tick),
        order_type=OrderType.GTC,
        is_post_only=False,
        is_neg_risk=order.is_neg_risk,
        salt=order.salt,
        timestamp_ms=order.timestamp_ms,
    )
    return {f"order {order.name}: body": signed.body.decode(), f"order {order.name}: id": signed.order_id}


def _book_hash(book: ProbeBook) -> str:
    def levels(side: tuple[tuple[str, str], ...]) -> list[Level]:
        return [Level(Price(micro_from_text(price)), Size(micro_from_text(size))) for price, size in side]

    return book_hash(
        market_id=MarketId(book.market),
        token_id=TokenId(book.asset_id),
        exchange_ms=int(book.timestamp),
        bids=levels(book.bids),
        asks=levels(book.asks),
        size_min=Size(micro_from_text(book.min_order_size)),
        tick=Price(micro_from_text(book.tick_size)),
        is_neg_risk=book.neg_risk,
        last_trade_text=book.last_trade_price,
    )


async def _run_reference(request: ProbeRequest) -> Parts:
    command = [sys.executable, "-I", str(REFERENCE)]
    try:
        with anyio.fail_after(PROBE_S_MAX):
            done = await anyio.run_process(command, input=msgspec.json.encode(request), check=False, env={})
    except (TimeoutError, OSError) as error:
        raise ConfigError(f"signing probe: the reference did not run ({type(error).__name__}: {error})") from error
    try:
        if done.returncode == 0:
            return _PARTS.decode(done.stdout)
    except msgspec.DecodeError as error:
        raise ConfigError("signing probe: the reference gave no usable answer") from error
    raise ConfigError(f"signing probe: the reference failed ({_last_line(done)}); install the pinned requirements")


def _last_line(done: CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else f"exit code {done.returncode}"
