"""Asks everything that decides whether a bot could trade; `judgement` judges the answers.

Questions are asked in three rounds, each one's together: how far the exchange is, alone, so that nothing else is timed;
what needs nothing; what needs credentials or markets. A question without an answer is a yellow line and hinders no
other; what depends on something that is red elsewhere is yellow as well, so that a single fault is a single red line.
Nothing is created and no order is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Final, TypeVar

import httpx2
import msgspec
import trio

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import BookSnapshot
from tbot.core.risk import RiskLimits
from tbot.core.units import Nanos
from tbot.errors import AuthenticationFailed, BadFrame, ConfigError, ExchangeUnavailable
from tbot.exchanges.polymarket import judgement
from tbot.exchanges.polymarket.auth import RequestSigner
from tbot.exchanges.polymarket.catalog import load_market
from tbot.exchanges.polymarket.conformance import check_conformance
from tbot.exchanges.polymarket.connection import RestConnection, RunWide
from tbot.exchanges.polymarket.credentials import until_taken
from tbot.exchanges.polymarket.gamma import Gamma
from tbot.exchanges.polymarket.hosts import is_on_this_machine
from tbot.exchanges.polymarket.judgement import Approval, Finding, Light, green, hindrances, red, yellow
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey
from tbot.exchanges.polymarket.rest import NotFound, Rest, balance_query
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.polymarket.sockets import ASSETS_MAX, Connect, MarketChannel, open_market_socket, tcp_connector
from tbot.exchanges.polymarket.wallets import WalletKind, wallets_of

# Five for the clock, ten for a percentile that is worth its name.
TIMES_ASKED: Final = 10
FEED_S_MAX: Final = 10.0
LOOK: Final = "Look at the network and the exchange's status page, then run this again."
RENEW: Final = "Run `tbot keys derive --reveal` and export those."
NAME_WALLET: Final = "Set exchange.funder to the wallet that holds the money."
# Of questions that go elsewhere than to exchange.rest_url.
_LOOK_AT: Final = {
    "geoblock": "Look at exchange.geoblock_url and the network, then run this again.",
    "wallet contract": "Look at exchange.relayer_url and the network, then run this again.",
}
_RELAYER_TYPES: Final = {WalletKind.PROXY: "PROXY", WalletKind.SAFE: "SAFE", WalletKind.DEPOSIT: "WALLET"}

T = TypeVar("T")
Check = Callable[[], Awaitable[Finding]]
Probe = Callable[[PolymarketSettings], Awaitable[tuple[str, ...]]]


class _Deployed(msgspec.Struct, frozen=True, kw_only=True):
    deployed: bool


class _Holding(msgspec.Struct, frozen=True, kw_only=True):
    balance: Annotated[str, msgspec.Meta(pattern="^[0-9]{1,40}$")]
    allowances: dict[str, str] | None = None


class _Tier(msgspec.Struct, frozen=True, kw_only=True):
    tier: str = ""


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach what is examined; None = real sockets to the addresses of the settings.

    Attributes:
        transport: Carries the REST requests to the exchange.
        relayer: Carries those to the relayer.
        market: Opens a stream for the market channel.
        probe: Compares our signing with the official clients'.
    """

    transport: httpx2.AsyncBaseTransport | None = None
    relayer: httpx2.AsyncBaseTransport | None = None
    market: Connect | None = None
    probe: Probe = check_conformance


class Examination:
    """One examination of one account; used once.

    Attributes:
        credentials: Those that the exchange takes; None before, and when there are none.
        markets: Those that exist, as far as they were asked for.
    """

    def __init__(
        self,
        settings: PolymarketSettings,
        *,
        key: SigningKey | None,
        credentials: ApiCredentials | None = None,
        is_play: bool,
        is_start: bool = False,
        on_wait: Callable[[str], None] = lambda _: None,
        limits: RiskLimits,
        now_ns: Callable[[], Nanos],
        reach: Reach,
        shared: RunWide | None = None,
    ) -> None:
        """Prepare it; nothing is connected yet.

        Args:
            settings: Where, which wallet, which markets.
            key: Of the account; None = there is none, which the caller has said already.
            credentials: Of the environment; None = derived from the key.
            is_play: Whether well-known keys are welcome: an exchange of our own.
            is_start: Whether a bot is about to trade: missing credentials are created then, and new ones waited for.
            on_wait: Told why it takes minutes, when it does.
            limits: Of the bot: they must fit the exchange, and the money must cover them.
            now_ns: Wall time.
            reach: For tests.
            shared: What the run that is about to start keeps; None = there is none.
        """
        self._settings = settings
        self._key = key
        self._given = credentials
        self._is_play = is_play
        self._is_start = is_start
        self._on_wait = on_wait
        self._limits = limits
        self._now_ns = now_ns
        self._reach = reach
        self._public = RestConnection(settings, now_ns=now_ns, transport=reach.transport, shared=shared)
        self._rest = self._public.rest
        self._private: RestConnection | None = None
        self.markets: list[Market] = []
        self.credentials: ApiCredentials | None = None

    async def findings(self) -> tuple[Finding, ...]:
        """Ask everything and return a line for each question, always in the same order."""
        try:
            found = await self._distance()
            found += await _together([self._place, self._version, self._probe, *self._account()])
            markets = await self._market_checks()
            markets.append(judgement.judge_limits(self._limits, self.markets))
            hindered = hindrances((*found, *markets), has_traded=True) if self._is_start else ()
            found += await _together([_not_asked(hindered) if hindered else self._credentials])
            found += markets
            return (*found, *await _together([*self._with_credentials(), *self._allowance_checks(), self._feed]))
        finally:
            for connection in filter(None, (self._public, self._private)):
                await connection.aclose()

    # --- the exchange -------------------------------------------------------------------------------------------

    async def _distance(self) -> list[Finding]:
        latencies: list[float] = []
        try:
            for _ in range(TIMES_ASKED):
                began = trio.current_time()
                await self._public.measure_clock()
                latencies.append(trio.current_time() - began)
        except ExchangeUnavailable as error:
            remedy = "Look at exchange.rest_url, the network, and the exchange's status page."
            unknown = yellow("clock", "not told", remedy)
            return [red("requests", f"the exchange does not answer: {error}", remedy), unknown]
        return [judgement.judge_latency(latencies), judgement.judge_clock(self._public.clock)]

    async def _place(self) -> Finding:
        if not self._settings.geoblock_url:
            if self._is_play:
                return green("geoblock", "not asked on an exchange of our own")
            return red("geoblock", "not asked", "Set exchange.geoblock_url.")
        place = await self._rest.is_blocked_here(self._settings.geoblock_url)
        return judgement.judge_place(is_blocked=place.blocked, country=place.country)

    async def _version(self) -> Finding:
        return judgement.judge_version(await self._rest.version())

    async def _probe(self) -> Finding:
        if self._is_wallet_unnamed:
            return yellow("signing", "no wallet to sign for", NAME_WALLET)
        try:
            parts = await self._reach.probe(self._settings)
        except (AuthenticationFailed, ConfigError) as error:
            return red("signing", str(error), "Install the pinned requirements; if they are, tell us: do not trade.")
        return green("signing", f"{len(parts)} parts equal the official clients'")

    async def _market_checks(self) -> list[Finding]:
        names = (*self._settings.condition_ids, *self._settings.slugs)
        if not names:
            return [red("markets", "none is named", "Name markets in exchange.condition_ids or exchange.slugs.")]
        market_ids, unknown = await self._named()
        checks = [self._market_check(each) for each in dict.fromkeys((*self._settings.condition_ids, *market_ids))]
        return [*await _together(checks), *unknown]

    async def _named(self) -> tuple[list[MarketId], list[Finding]]:
        found: list[MarketId] = []
        unknown: list[Finding] = []
        gamma = Gamma(self._rest, self._settings.gamma_url, self._now_ns)
        for slug in self._settings.slugs:
            try:
                found.append((await gamma.market(slug)).market_id)
            except ConfigError as error:
                unknown.append(red("markets", str(error), f"Correct {slug} in exchange.slugs, or take it out."))
            except ExchangeUnavailable as error:
                remedy = "Look at exchange.gamma_url, or wait."
                return found, [*unknown, red("markets", f"the catalogue does not answer: {error}", remedy)]
        return found, unknown

    def _market_check(self, condition_id: str) -> Check:
        async def market() -> Finding:
            try:
                loaded = await load_market(self._rest, MarketId(condition_id))
            except ConfigError as error:
                told = str(error).removeprefix(f"market {condition_id}: ")
                return red(f"market {condition_id}", told, "Take it out of exchange.condition_ids.")
            self.markets.append(loaded)
            return judgement.judge_market(loaded)

        market.__name__ = f"market {condition_id}"
        return market

    async def _feed(self) -> Finding:
        tokens = [token for market in self.markets for token in market.tokens][:ASSETS_MAX]
        if not tokens:
            return yellow("feed", "no market to ask for", judgement.NAME_MARKET)
        connect = self._reach.market or tcp_connector(self._settings.ws_market_url)
        url, timeouts = self._settings.ws_market_url, self._settings.timeouts
        began = trio.current_time()
        try:
            with trio.move_on_after(FEED_S_MAX):
                async with open_market_socket(url, connect, tokens, timeouts) as socket:
                    channel = MarketChannel(socket, tokens, self._now_ns, lambda _: None)
                    while not any(isinstance(event, BookSnapshot) for event in await channel.receive()):
                        pass
                    return judgement.judge_feed(trio.current_time() - began, within_s=FEED_S_MAX)
        except (ExchangeUnavailable, BadFrame) as error:
            return red("feed", str(error), "Look at exchange.ws_market_url and the exchange's status page.")
        return judgement.judge_feed(None, within_s=FEED_S_MAX)

    # --- the account --------------------------------------------------------------------------------------------

    @property
    def _wallet(self) -> str:
        return self._settings.funder or (self._key.address if self._key is not None else "")

    @property
    def _is_wallet_unnamed(self) -> bool:
        """Whether the line of the wallet is red for want of one: then nothing about another one is worth a line."""
        return not self._settings.funder and self._settings.signature_type != WalletKind.EOA

    def _account(self) -> list[Check]:
        return [] if self._key is None else [self._own_key, self._own_wallet, self._deployed]

    async def _own_key(self) -> Finding:
        assert self._key is not None, "asked only with a key"
        return judgement.judge_key(self._key.address, is_play=self._is_play)

    async def _own_wallet(self) -> Finding:
        assert self._key is not None, "asked only with a key"
        settings = self._settings
        wallets = wallets_of(self._key.address)
        return judgement.judge_wallet(wallets, signature_type=settings.signature_type, funder=settings.funder)

    async def _deployed(self) -> Finding:
        check, settings = "wallet contract", self._settings
        kind = WalletKind(settings.signature_type)
        if kind is WalletKind.EOA:
            return green(check, "the key's own account needs none")
        if self._is_wallet_unnamed:
            return yellow(check, "no wallet to ask about", NAME_WALLET)
        if not settings.relayer_url:
            return yellow(check, "no relayer to ask", "Set exchange.relayer_url.")
        if is_on_this_machine(settings.rest_url) and not is_on_this_machine(settings.relayer_url):
            remedy = "Set exchange.relayer_url to the one that `tbot exchange --json` names."
            return yellow(check, "not asked: the exchange is on this machine, the relayer elsewhere", remedy)
        relayer = self._beside(self._reach.relayer, url=settings.relayer_url)
        try:
            query = {"address": self._wallet, "type": _RELAYER_TYPES[kind]}
            answer = await relayer.rest.get(_Deployed, "/deployed", query)
        finally:
            await relayer.aclose()
        return judgement.judge_deployed(self._wallet, is_deployed=answer.deployed)

    async def _credentials(self) -> Finding:
        check = "credentials"
        if self._key is None:
            return yellow(check, "no key to derive them from", judgement.GIVE_KEY)
        try:
            derived = self._given or await self._rest.obtain_credentials(
                self._key, chain_id=self._settings.chain_id, is_derived_only=not self._is_start
            )
        except AuthenticationFailed as error:
            if self._public.clock.is_beyond_use:
                return yellow(check, f"refused while the clock is off: {error}", judgement.SET_CLOCK)
            return red(check, str(error), "Run `tbot keys create`.")
        private = self._beside(self._reach.transport, signer=RequestSigner(self._key.address, derived))
        try:
            # New ones are refused for a while; those of the environment were exported some time after they were made.
            is_patient = self._is_start and self._given is None
            await (until_taken(private.rest, self._on_wait) if is_patient else private.rest.is_closed_only())
        except AuthenticationFailed as error:
            await private.aclose()
            return red(
                check,
                str(error),
                f"If they are new, wait two minutes. Else: {RENEW}",
            )
        self._private, self.credentials = private, derived
        return green(check, f"API key {derived.api_key}")

    def _with_credentials(self) -> list[Check]:
        if self._private is None:
            return []
        rest = self._private.rest

        async def standing() -> Finding:
            return judgement.judge_standing(is_closed_only=await rest.is_closed_only())

        async def balance() -> Finding:
            if self._is_wallet_unnamed:
                return yellow("balance", "no wallet to ask about", NAME_WALLET)
            judge = partial(judgement.judge_balance, exposure_max=self._limits.exposure_max)
            return await self._judged(rest, None, lambda held: judge(int(held.balance)))

        async def rate_tier() -> Finding:
            try:
                told = await rest.get(_Tier, "/v1/user/rate-limit-tier", is_private=True)
            except NotFound:
                told = _Tier()
            return judgement.judge_tier(told.tier, self._settings.limits)

        return [standing, balance, rate_tier]

    def _allowance_checks(self) -> list[Check]:
        if self._private is None:
            return []
        rest = self._private.rest
        needed = judgement.approvals_needed(self.markets, chain_id=self._settings.chain_id)
        return [self._allowance_check(rest, each) for each in needed]

    def _allowance_check(self, rest: Rest, approval: Approval) -> Check:
        async def allowance() -> Finding:
            if self._is_wallet_unnamed:
                return yellow(approval.check, "no wallet to ask about", NAME_WALLET)
            asset, needed = None if approval.is_amount else TokenId(approval.example), self._limits.exposure_max
            judge = partial(judgement.judge_approval, approval, wallet=self._wallet, needed=needed)
            return await self._judged(rest, asset, lambda held: judge(held.allowances))

        allowance.__name__ = approval.check
        return allowance

    async def _judged(self, rest: Rest, token_id: TokenId | None, judge: Callable[[_Holding], Finding]) -> Finding:
        """Judge what is told of an asset; red only once the exchange read the chain anew, for it tells from a cache."""
        kind = self._settings.signature_type
        query = balance_query(token_id, kind)
        finding = judge(await rest.get(_Holding, "/balance-allowance", query, is_private=True))
        if finding.light is not Light.RED:
            return finding
        try:
            await rest.refresh_balance(token_id, signature_type=kind)
        except ExchangeUnavailable:
            remedy = f"{finding.remedy} If that was done just now, wait: the exchange tells from an old cache."
            return msgspec.structs.replace(finding, remedy=remedy)
        return judge(await rest.get(_Holding, "/balance-allowance", query, is_private=True))

    def _beside(
        self, transport: httpx2.AsyncBaseTransport | None, *, url: str = "", signer: RequestSigner | None = None
    ) -> RestConnection:
        return RestConnection(
            self._settings,
            now_ns=self._now_ns,
            signer=signer,
            transport=transport,
            url=url,
            shared=self._public.shared,
        )


def _not_asked(reds: Sequence[Finding]) -> Check:
    async def credentials() -> Finding:
        await trio.lowlevel.checkpoint()
        names = ", ".join(dict.fromkeys(each.check for each in reds))
        return yellow("credentials", "not asked for while something else is red", f"Mend {names} first.")

    return credentials


async def _together(checks: list[Check]) -> list[Finding]:
    found: dict[int, Finding] = {}

    async def one(place: int, check: Check) -> None:
        found[place] = await _told(check)

    async with trio.open_nursery() as nursery:
        for place, check in enumerate(checks):
            nursery.start_soon(one, place, check)
    return [found[place] for place in range(len(checks))]


async def _told(check: Check) -> Finding:
    name = getattr(check, "__name__", "").lstrip("_").replace("_", " ")
    name = {"place": "geoblock", "version": "order version", "deployed": "wallet contract"}.get(name, name)
    try:
        return await check()
    except ExchangeUnavailable as error:
        return yellow(name, f"not told: {error}", _LOOK_AT.get(name, LOOK))
    except AuthenticationFailed as error:
        return yellow(name, f"not told: {error}", RENEW)
