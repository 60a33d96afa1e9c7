"""Whom and what a fault can be aimed at: a slip of the pen is refused, instead of striking nobody."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import msgspec
from eth_utils.address import to_checksum_address

from tbot.core.market import TokenId
from tbot.exchanges.simulated.fault_catalogue import CATALOGUE, Aim
from tbot.exchanges.simulated.fault_switches import FaultOrder
from tbot.exchanges.simulated.operations import MarketRules

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_API_KEY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Listed(Protocol):
    """What must be known of the engine."""

    def markets(self) -> tuple[MarketRules, ...]:
        """List every market."""
        ...

    def rules_of(self, token_id: TokenId) -> MarketRules | None:
        """Tell the rules of a token's market; None = no such token."""
        ...


class Targets:
    """Everything a fault can strike.

    Args:
        listed: What is traded.

    Attributes:
        has_wallet: Each tells whether it knows a wallet, spelled with its checksum, or any other account.
        has_key: Each tells whether it knows an API key.
    """

    def __init__(self, listed: Listed) -> None:
        self.has_wallet: list[Callable[[str], bool]] = []
        self.has_key: list[Callable[[str], bool]] = []
        self._listed = listed
        self._kinds: dict[Aim, tuple[Callable[[str, bool], str | None], ...]] = {
            Aim.NOTHING: (),
            Aim.TOKEN: (self._token,),
            Aim.ACCOUNT: (self._wallet,),
            Aim.ORDER: (self._wallet, self._token, self._market),
            Aim.TRADE: (self._wallet, self._token, self._market),
            Aim.API_KEY: (self._key,),
        }

    def aimed(self, order: FaultOrder, *, is_ahead: bool = False) -> FaultOrder:
        """Give an order with its target as the exchange spells it.

        Args:
            order: Without a target it strikes anybody.
            is_ahead: Whether it is written before anybody came: any wallet or API key may still come.

        Raises:
            ValueError: Its target is nothing that the fault could strike.
        """
        if not order.target:
            return order
        aim = CATALOGUE[order.name].aim
        for spelled in self._kinds[aim]:
            if (target := spelled(order.target, is_ahead)) is not None:
                return msgspec.structs.replace(order, target=target)
        raise ValueError(f"expected {aim} of this exchange as target, found {order.target!r}")

    def _token(self, text: str, _: bool) -> str | None:
        return None if self._listed.rules_of(TokenId(text)) is None else text

    def _market(self, text: str, _: bool) -> str | None:
        spelled = text.lower()
        return spelled if any(rules.market_id == spelled for rules in self._listed.markets()) else None

    def _wallet(self, text: str, is_ahead: bool) -> str | None:
        is_address = _ADDRESS.fullmatch(text) is not None
        spelled = str(to_checksum_address(text)) if is_address else text
        is_known = (is_ahead and is_address) or any(knows(spelled) for knows in self.has_wallet)
        return spelled if is_known else None

    def _key(self, text: str, is_ahead: bool) -> str | None:
        spelled = text.lower()
        is_known = is_ahead and _API_KEY.fullmatch(spelled) is not None
        return spelled if is_known or any(knows(spelled) for knows in self.has_key) else None
