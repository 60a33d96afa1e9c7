"""The local exchange on its own: markets, crowd, server, and ten funded accounts whose keys everybody knows.

THE KEYS ARE FOR PLAY: they are the public test accounts that every Ethereum development chain hands out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
import trio
from eth_account.hdaccount import key_from_seed, seed_from_mnemonic
from msgspec import Meta

from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional
from tbot.exchanges.simulated.accounts import ApiCredentials, PlayAccount
from tbot.exchanges.simulated.descriptions import Description, check_slugs
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.flow import FlowSettings
from tbot.exchanges.simulated.listing import check_markets
from tbot.exchanges.simulated.operations import Account, EngineSettings, MarketRules
from tbot.exchanges.simulated.server import Addresses, LocalServer, ServerSettings
from tbot.exchanges.simulated.settings import ExchangeSettings
from tbot.exchanges.simulated.wire_in import SignatureType

NOTICE = "PLAY KEYS: everybody knows them. Never send real money to any of these addresses."

# What development chains such as anvil start with, by their public mnemonic and the usual path.
_MNEMONIC = " ".join(["test"] * 11 + ["junk"])
_PATH = "m/44'/60'/0'/0/{}"
_ACCOUNTS = 10


class Game(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the game of a market starts.

    Attributes:
        slug: Of the market.
        starts_in_s: Seconds from the start of the exchange.
        clears_book: Whether all resting orders are cancelled then.
    """

    slug: Annotated[str, Meta(min_length=1, max_length=200)]
    starts_in_s: Annotated[int, Meta(gt=0, le=31_536_000)]
    clears_book: bool = True


class StandaloneSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of conf/exchange.toml, which names every setting there is with its default.

    Attributes:
        markets: What is listed.
        games: Start times that count from the start of the exchange; a market may say its own as a moment.
        descriptions: Words for markets and events; what is left out is made from slugs.
        cash: Play money of each wallet of each account, dollars.
        engine: Settlement times.
        traders: The synthetic crowd.
        has_traders: False = nobody trades but real callers.
        server: Where it listens; ports 0 = any free one.
        faults: What goes wrong; nothing unless asked for.
    """

    markets: Annotated[tuple[MarketRules, ...], Meta(min_length=1)]
    games: tuple[Game, ...] = ()
    descriptions: tuple[Description, ...] = ()
    cash: Annotated[Notional, Meta(ge=0)] = Notional(10_000 * MICRO)
    engine: EngineSettings = EngineSettings()
    traders: FlowSettings = FlowSettings()
    has_traders: bool = True
    server: ServerSettings = ServerSettings()
    faults: FaultSettings = FaultSettings()

    def __post_init__(self) -> None:
        """Refuse markets that no exchange could list."""
        check_slugs(self.descriptions, self.markets)
        check_markets(self.markets)
        free = [rules.slug for rules in self.markets if not rules.game_start_s]
        for game in self.games:
            if free.count(game.slug) != 1:
                raise ValueError(
                    f"expected in games the slug of one market without a game_start_s, found {game.slug!r}"
                )
            free.remove(game.slug)

    def markets_at(self, now_ns: Nanos) -> tuple[MarketRules, ...]:
        """Give the markets with the start of every game, for an exchange that starts now."""
        games = {game.slug: game for game in self.games}
        return tuple(_with_game(rules, games.get(rules.slug), now_ns) for rules in self.markets)


class Wallets(msgspec.Struct, frozen=True, kw_only=True):
    """Where an account's money lies besides its own address."""

    proxy: str
    safe: str
    deposit: str


class FundedAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A play account with its first API key; it has cash in its own address and in each wallet."""

    address: str
    private_key: str
    api_credentials: ApiCredentials
    wallets: Wallets

    def __repr__(self) -> str:
        return f"FundedAccount({self.address}, PLAY KEY: NEVER FUND)"


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What a program must know to trade here; a service without an address is not offered."""

    rest_url: str
    ws_market_url: str
    ws_user_url: str
    gamma_url: str | None = None
    data_url: str | None = None
    relayer_url: str | None = None
    geoblock_url: str | None = None
    rpc_url: str | None = None
    chain_id: int
    notice: str = NOTICE
    accounts: tuple[FundedAccount, ...]


class StandaloneExchange:
    """The exchange, its crowd and its server.

    Attributes:
        exchange: The exchange itself.
        server: Polymarket's protocol in front of it.
        accounts: Enrolled and funded.
    """

    def __init__(
        self,
        settings: StandaloneSettings,
        *,
        seed: int,
        now_ns: Callable[[], Nanos],
        on_crash: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        """List the markets and fund everybody.

        Args:
            settings: What there is.
            seed: Of traders, faults and API keys: the same seed gives the same keys after a restart.
            now_ns: The clock.
            on_crash: Told every bug of the server when a request meets it.
        """
        self._settings = settings
        self.exchange = LocalExchange(
            ExchangeSettings(
                markets=settings.markets_at(now_ns()),
                engine=settings.engine,
                flow=settings.traders if settings.has_traders else None,
            ),
            seed=seed,
            now_ns=now_ns,
            faults=Faults(settings.faults, seed=seed),
        )
        secret = f"{seed}/api keys".encode()
        self.server = LocalServer(
            self.exchange,
            settings.server,
            secret=secret,
            now_ns=now_ns,
            described=settings.descriptions,
            on_crash=on_crash,
        )
        self.exchange.contain(self.server.crashes.append)
        self.accounts = tuple(self._fund(account) for account in public_accounts())

    async def serve(self, *, task_status: trio.TaskStatus[Announcement] = trio.TASK_STATUS_IGNORED) -> None:
        """Trade and listen until cancelled; reports what to announce once it listens.

        Raises:
            ConfigError: A port cannot be had.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(self.exchange.run)
            addresses: Addresses = await nursery.start(self.server.listen)
            task_status.started(
                Announcement(
                    rest_url=addresses.rest_url,
                    gamma_url=addresses.gamma_url,
                    data_url=addresses.data_url,
                    relayer_url=addresses.relayer_url,
                    geoblock_url=addresses.geoblock_url,
                    rpc_url=addresses.rpc_url,
                    ws_market_url=addresses.ws_market_url,
                    ws_user_url=addresses.ws_user_url,
                    chain_id=self._settings.server.chain_id,
                    accounts=self.accounts,
                )
            )

    def _fund(self, account: PlayAccount) -> FundedAccount:
        credentials = self.server.enroll(account, self._settings.cash)
        proxy, safe, deposit = (
            self.server.keys.wallet_of(account.address, kind)
            for kind in (SignatureType.POLY_PROXY, SignatureType.POLY_GNOSIS_SAFE, SignatureType.POLY_1271)
        )
        for wallet in (proxy, safe, deposit):
            self.exchange.deposit(Account(wallet), self._settings.cash)
        return FundedAccount(
            address=account.address,
            private_key=account.private_key,
            api_credentials=credentials,
            wallets=Wallets(proxy=proxy, safe=safe, deposit=deposit),
        )


def public_accounts() -> tuple[PlayAccount, ...]:
    """Make the ten test accounts that every development chain has."""
    seed = seed_from_mnemonic(_MNEMONIC, "")
    return tuple(PlayAccount.from_key(key_from_seed(seed, _PATH.format(index))) for index in range(_ACCOUNTS))


def _with_game(rules: MarketRules, game: Game | None, now_ns: Nanos) -> MarketRules:
    if game is None:
        return rules
    start_s = now_ns // NANOS_PER_S + game.starts_in_s
    return msgspec.structs.replace(rules, game_start_s=start_s, clears_book_at_start=game.clears_book)
