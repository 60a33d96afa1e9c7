"""Who may trade how: what the exchange's staff has decided about an address, told in its own words.

Nobody is restricted until the operator says so; only orders are, never cancels. Texts as in the exchange's list of
errors, read 2026-11.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from tbot.core.messages import Side
from tbot.exchanges.simulated.http import HttpRefusal
from tbot.exchanges.simulated.wire_in import SignatureType, SignedOrder

TEXT_BANNED = "'{address}' address banned"
TEXT_CLOSED_ONLY = "'{address}' address in closed only mode"
TEXT_DEPOSIT_WALLET = "maker address not allowed, please use the deposit wallet flow"


class Standing(StrEnum):
    """What an address may do."""

    NORMAL = "normal"
    CLOSED_ONLY = "closed_only"  # may reduce what it has
    BANNED = "banned"


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Everything decided about one address.

    Attributes:
        needs_deposit_wallet: Whether it is an account as they are since 2026-05: only its deposit wallet may trade.
    """

    standing: Standing = Standing.NORMAL
    needs_deposit_wallet: bool = False


class Standings:
    """The terms of every address of an API key; synchronous."""

    def __init__(self) -> None:
        """Restrict nobody."""
        self._terms: dict[str, Terms] = {}

    def of(self, address: str) -> Terms:
        """Tell the terms of a checksummed address."""
        return self._terms.get(address, _FREE)

    def set(self, address: str, terms: Terms) -> None:
        """Replace the terms of a checksummed address."""
        self._terms[address] = terms

    def check(self, address: str, order: SignedOrder) -> None:
        """Refuse an order that its sender may not place.

        A sale is what reduces: whether buying the opposite outcome counts as well is not documented.

        Raises:
            HttpRefusal: 400 with the exchange's text.
        """
        terms = self.of(address)
        if terms.standing is Standing.BANNED:
            raise HttpRefusal(TEXT_BANNED.format(address=address))
        if terms.standing is Standing.CLOSED_ONLY and order.side is Side.BUY:
            raise HttpRefusal(TEXT_CLOSED_ONLY.format(address=address))
        if terms.needs_deposit_wallet and order.signature_type is not SignatureType.POLY_1271:
            raise HttpRefusal(TEXT_DEPOSIT_WALLET)


_FREE = Terms()
