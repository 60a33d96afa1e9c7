"""What the routes and channels of the local server share: the exchange, the keys, and who is who."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from tbot.core.market import MarketId, TokenId
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated.accounts import KeyRing, Member
from tbot.exchanges.simulated.catalog import Catalog
from tbot.exchanges.simulated.contracts import AssetType
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.http import Handler, Reply, Request
from tbot.exchanges.simulated.modes import Modes
from tbot.exchanges.simulated.operations import Account, MarketRules
from tbot.exchanges.simulated.quota import Quotas
from tbot.exchanges.simulated.rest_geoblock import Place
from tbot.exchanges.simulated.standing import Standings
from tbot.exchanges.simulated.verify import OrderVerifier
from tbot.exchanges.simulated.wire_markets import OUTCOMES

PriceOfBuy = Literal["bid", "ask"]
MemberHandler = Callable[[Request, Member], Awaitable[Reply]]


class Directory:
    """Finds markets by token, and names accounts as the wire does.

    Account names of the exchange are wallet addresses for members, and plain words for synthetic traders, who get an
    address and an API key made from their name: on the wire nobody can tell them apart.
    """

    def __init__(self, exchange: LocalExchange, keys: KeyRing) -> None:
        """Look things up in this exchange and key ring."""
        self._engine = exchange.engine
        self._keys = keys

    def rules(self, token_id: str) -> MarketRules | None:
        """Give the market of a token, with its present tick; None = no such token."""
        try:
            return self._engine.rules(self._engine.market_of(TokenId(token_id)))
        except KeyError:
            return None

    def market(self, market_id: str) -> MarketRules | None:
        """Give a market by its condition id, with its present tick; None = no such market."""
        try:
            return self._engine.rules(MarketId(market_id))
        except KeyError:
            return None

    def outcome_index(self, token_id: str) -> int:
        """Give 0 for YES, 1 for NO."""
        rules = self.rules(token_id)
        return 0 if rules is None or rules.yes == token_id else 1

    def outcome(self, token_id: str) -> str:
        """Name the outcome of a token."""
        return OUTCOMES[self.outcome_index(token_id)]

    def owner(self, account: Account, sender: str) -> str:
        """Name the API key that sent an order of an account; for one that came without, the key it would have."""
        return sender or self._keys.key_of(account)

    def address(self, account: Account) -> str:
        """Give the wallet address of an account."""
        if account.startswith("0x"):
            return account
        return "0x" + hashlib.sha256(f"account:{account}".encode()).hexdigest()[:40]


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """The parts behind every request. Shared within one server, single-threaded and synchronous.

    Attributes:
        feed_dice: Makes the generator of one more connection to the market channel.
        price_of_buy: Which best price `/price` tells for side BUY.
    """

    exchange: LocalExchange
    keys: KeyRing
    verifier: OrderVerifier
    quotas: Quotas
    directory: Directory
    catalog: Catalog
    modes: Modes
    place: Place
    standings: Standings
    now_ns: Callable[[], Nanos]
    feed_dice: Callable[[], random.Random]
    price_of_buy: PriceOfBuy

    @property
    def now_s(self) -> float:
        """Unix seconds, by the clock of the REST servers, which a fault may set wrong."""
        faults = self.exchange.faults
        skew_s = faults.settings.skew_s if faults.is_on(Fault.CLOCK_SKEW) else 0.0
        return self.now_ns() / NANOS_PER_S + skew_s

    def accounts_of(self, member: Member) -> tuple[Account, ...]:
        """Name the accounts a member trades from: one a wallet, the key's own address first."""
        return tuple(Account(wallet) for wallet in self.keys.wallets_of(member.address))

    def allowance(self, wallet: Account, asset: AssetType, spender: str) -> int:
        """Tell how much of a wallet's asset a contract may still move; nobody granted anything for a stranger's."""
        is_known = self.keys.has_wallet(wallet)
        return self.exchange.engine.allowances.left(wallet, asset, spender) if is_known else 0

    def for_member(self, handler: MemberHandler) -> Handler:
        """Put the check of the L2 headers in front of a handler."""

        async def check(request: Request) -> Reply:
            return await handler(request, self.keys.authenticate(request, now_s=self.now_s))

        return check
