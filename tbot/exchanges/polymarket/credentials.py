"""API credentials of a key: derived when they exist, created when they do not, and waited for while they are new."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import httpx2
import trio

from tbot.core.units import Nanos
from tbot.errors import AuthenticationFailed
from tbot.exchanges.polymarket.auth import RequestSigner
from tbot.exchanges.polymarket.connection import RestConnection
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey
from tbot.exchanges.polymarket.rest import Rest
from tbot.exchanges.polymarket.settings import PolymarketSettings

# New credentials were seen refused for about two minutes before they were taken (reports of users, read 2026-11-22).
GRACE_S: Final = 180.0
ASK_AGAIN_S: Final = 5.0
WAITING: Final = (
    "the exchange does not take these API credentials yet; new ones need about two minutes, "
    f"so it is asked again for at most {GRACE_S / 60:g}"
)


async def obtain_credentials(
    settings: PolymarketSettings,
    *,
    key: SigningKey,
    now_ns: Callable[[], Nanos],
    is_derived_only: bool = False,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> ApiCredentials:
    """Derive the credentials of a key; create them when there are none, unless told otherwise: before a gateway.

    Args:
        settings: Where, and on which chain.
        key: Key of the EOA.
        now_ns: Wall time.
        is_derived_only: Create nothing.
        transport: For tests and simulations; None = sockets.

    Raises:
        AuthenticationFailed: There are none, or the exchange refuses this key.
        ConfigError: An address that must not get our requests.
        ExchangeUnavailable: Try again later.
    """
    connection = RestConnection(settings, now_ns=now_ns, transport=transport)
    try:
        await connection.measure_clock()
        return await connection.rest.obtain_credentials(
            key, chain_id=settings.chain_id, is_derived_only=is_derived_only
        )
    finally:
        await connection.aclose()


async def wait_until_taken(
    settings: PolymarketSettings,
    *,
    key: SigningKey,
    credentials: ApiCredentials,
    now_ns: Callable[[], Nanos],
    on_wait: Callable[[str], None],
    transport: httpx2.AsyncBaseTransport | None = None,
) -> None:
    """Ask until the exchange takes new credentials, for at most three minutes.

    Args:
        settings: Where.
        key: Whose they are.
        credentials: The new ones.
        now_ns: Wall time.
        on_wait: Told in one sentence, once, when they are not taken at first.
        transport: For tests and simulations; None = sockets.

    Raises:
        AuthenticationFailed: It still refuses them.
        ExchangeUnavailable: Try again later.
    """
    signer = RequestSigner(key.address, credentials)
    connection = RestConnection(settings, now_ns=now_ns, signer=signer, transport=transport)
    try:
        await connection.measure_clock()
        await until_taken(connection.rest, on_wait)
    finally:
        await connection.aclose()


async def until_taken(rest: Rest, on_wait: Callable[[str], None]) -> None:
    """Ask until the exchange takes the credentials that sign these requests, for at most three minutes.

    Args:
        rest: Signs with them.
        on_wait: Told in one sentence, once, when they are not taken at first.

    Raises:
        AuthenticationFailed: It still refuses them.
        ExchangeUnavailable: Try again later.
    """
    give_up_at, is_told = trio.current_time() + GRACE_S, False
    while True:
        try:
            await rest.is_closed_only()
        except AuthenticationFailed:
            if trio.current_time() >= give_up_at:
                raise
            if not is_told:
                on_wait(WAITING)
            is_told = True
            await trio.sleep(ASK_AGAIN_S)
        else:
            return
