"""What stops a bot from trading: each fact about the account, the exchange or the network, judged.

Pure: whoever examines asks the questions (see `examination`), and the answers are judged here. Green trades, red does
not, yellow could not be told. A red or yellow finding says in one sentence what to do; `docs/runbook.md` says more.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from tbot.core.market import Market
from tbot.core.risk import RiskLimits
from tbot.core.units import MICRO, NANOS_PER_S, Notional, text_from_micro
from tbot.exchanges.polymarket.asset_ids import VERSION_SPOKEN, is_position_id
from tbot.exchanges.polymarket.clock import SKEW_S_MAX, ExchangeClock
from tbot.exchanges.polymarket.order_rules import misfits
from tbot.exchanges.polymarket.settings import LimitSettings
from tbot.exchanges.polymarket.signing import exchange_contract
from tbot.exchanges.polymarket.wallets import WalletKind, Wallets

# Half of what a whole submit may take; a bot that hears of a price this late quotes yesterday's.
LATENCY_S_MAX: Final = 1.0

BALANCE: Final = "balance"
MARKET: Final = "market "
TAKES_NO_ORDERS: Final = "takes no orders"
NAME_MARKET: Final = "Name markets in exchange.condition_ids or exchange.slugs that the exchange knows."
GIVE_KEY: Final = "Export TBOT_PRIVATE_KEY, or TBOT_PRIVATE_KEY_FILE with mode 0600."
SET_CLOCK: Final = "Let this machine keep its clock by NTP (systemd-timesyncd or chrony)."
COLLATERAL: Final = "0xC011a7E12a19f7B1f670d46F03B03f3342E82DFB"
CONDITIONAL_TOKENS: Final = "0x4D97DCd97eC945f40cF65F87097ACe5EA0476045"
POSITION_MANAGER: Final = "0x006F54F7f9A22e0000CC2AB60031000000ae9fEF"

# Orders and cancels a second of each tier (docs of the exchange, rate limits, read 2026-11-22).
TIERS: Final[Mapping[str, tuple[int, int]]] = {
    "standard": (40, 80),
    "copper": (60, 120),
    "bronze": (80, 160),
    "silver": (200, 400),
    "gold": (400, 800),
    "platinum": (450, 900),
    "diamond": (525, 1050),
    "elite": (600, 1200),
}

# The ten accounts of every development chain: whoever sends money there gives it away.
WELL_KNOWN: Final = frozenset(
    {
        "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
        "0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
        "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
        "0x90f79bf6eb2c4f870365e785982e1f101e93b906",
        "0x15d34aaf54267db7d7c367839aaf71a00a2c6a65",
        "0x9965507d1a55bcc2695c58ba16fb37d819b0a4dc",
        "0x976ea74026e726554db657fa54763abd0c3a0aa9",
        "0x14dc79964da2c08b23698b3d3cc7ca32193d9955",
        "0x23618e81e3f5cdf7f54c3d65f7fbc0abf5b21e8f",
        "0xa0ee7a142d267c1f36714e4a8f75612f20a79720",
    }
)


class Light(StrEnum):
    """What a finding means for trading; YELLOW = it could not be told."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the examination.

    Attributes:
        check: What was looked at.
        light: Whether it lets a bot trade.
        found: What was seen; may hold text from outside.
        remedy: One sentence; "" when green.
    """

    check: str
    light: Light
    found: str
    remedy: str = ""


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What a wallet must allow one exchange contract.

    Attributes:
        token: Name of the token contract.
        token_address: Where it is.
        is_amount: True for ERC-20 `approve` of an amount, False for ERC-1155 `setApprovalForAll`.
        spender: Name of the exchange contract.
        spender_address: Where it is.
        example: A token whose balance tells this approval; "" = the collateral.
    """

    token: str
    token_address: str
    is_amount: bool
    spender: str
    spender_address: str
    example: str

    @property
    def check(self) -> str:
        """Name of its line."""
        return f"allowance {self.token} to {self.spender}"


def green(check: str, found: str) -> Finding:
    """Nothing stands in the way."""
    return Finding(check=check, light=Light.GREEN, found=found)


def yellow(check: str, found: str, remedy: str) -> Finding:
    """It could not be told."""
    return Finding(check=check, light=Light.YELLOW, found=found, remedy=remedy)


def red(check: str, found: str, remedy: str) -> Finding:
    """A bot cannot trade like this."""
    return Finding(check=check, light=Light.RED, found=found, remedy=remedy)


def hindrances(found: Sequence[Finding], *, has_traded: bool) -> tuple[Finding, ...]:
    """Choose the findings for which a bot must not start: every red one, with two exceptions.

    A market that takes no orders hinders only when no other does. An empty wallet does not hinder a bot that traded
    before: its money may be in positions, which somebody has to look after.
    """
    reds = [each for each in found if each.light is Light.RED]
    if any(each.check.startswith(MARKET) and each.light is Light.GREEN for each in found):
        reds = [each for each in reds if not (each.check.startswith(MARKET) and each.found == TAKES_NO_ORDERS)]
    return tuple(each for each in reds if not (has_traded and each.check == BALANCE))


def judge_key(address: str, *, is_play: bool) -> Finding:
    """Judge whose key it is; well-known ones are for an exchange of our own."""
    if address.lower() in WELL_KNOWN and not is_play:
        return red("key", f"{address} is a public test account", "Set TBOT_PRIVATE_KEY to a key that only you have.")
    return green("key", f"of {address}")


def judge_wallet(wallets: Wallets, *, signature_type: int, funder: str) -> Finding:
    """Judge whether signature type and funder fit the key; derived addresses tell without asking anybody."""
    wanted = WalletKind(signature_type)
    if not funder and wanted is not WalletKind.EOA:
        remedy = f'Set funder = "{wallets.of(wanted)}" if that is the wallet that holds the money.'
        return red("wallet", f"signature type {signature_type} without a funder", remedy)
    kind = WalletKind.EOA if not funder else wallets.kind_of(funder)
    if kind is wanted:
        return green("wallet", f"{funder or wallets.eoa} is {wanted.title}")
    if kind is not None:
        found = f"{funder} is {kind.title}, signature type {signature_type} is {wanted.title}"
        return red("wallet", found, f"Set signature_type = {int(kind)}, or another funder.")
    if wanted is WalletKind.EOA:
        remedy = 'Set funder = "" to trade from the key itself, or the signature type of that wallet.'
        return red("wallet", f"{funder} is not the key's own account", remedy)
    remedy = "Compare it with the address that the exchange's web page shows for depositing, then try a small order."
    return yellow("wallet", f"{funder} is no wallet derived from this key", remedy)


def judge_deployed(wallet: str, *, is_deployed: bool) -> Finding:
    """Judge whether the contract of a wallet exists."""
    if is_deployed:
        return green("wallet contract", f"{wallet} is deployed")
    return red(
        "wallet contract", f"{wallet} is not deployed", "Log in once on the exchange's web page, which makes it."
    )


def judge_clock(clock: ExchangeClock) -> Finding:
    """Judge our clock by its measured difference to theirs, as the bot does before it trades."""
    ours_s = -clock.difference_ns / NANOS_PER_S
    found = f"{ours_s:+.1f} s from the exchange's"
    if clock.is_beyond_use:
        return red("clock", f"{found}, more than the {SKEW_S_MAX:g} s that are corrected", SET_CLOCK)
    return green("clock", f"{found}, corrected" if clock.is_off else found)


def judge_latency(latencies_s: Sequence[float]) -> Finding:
    """Judge how long small requests take; seconds, at least one."""
    ordered = sorted(latencies_s)
    p50, p90, most = statistics.median(ordered), ordered[int(0.9 * (len(ordered) - 1))], ordered[-1]
    found = f"p50 {p50 * 1e3:.0f} ms, p90 {p90 * 1e3:.0f} ms, longest {most * 1e3:.0f} ms of {len(ordered)}"
    if p50 > LATENCY_S_MAX:
        return red("requests", found, "Run the bot on a faster line, nearer to the exchange.")
    return green("requests", found)


def judge_version(version: int) -> Finding:
    """Judge the order protocol that the exchange asks for."""
    if version != VERSION_SPOKEN:
        found = f"the exchange wants orders of protocol {version}, we speak {VERSION_SPOKEN}"
        return red("order version", found, "Update tbot; orders would be refused.")
    return green("order version", f"{version}")


def judge_place(*, is_blocked: bool, country: str) -> Finding:
    """Judge the place we ask from."""
    if is_blocked:
        remedy = "Do not trade from here: tbot refuses to, and never routes around it."
        return red("geoblock", f"the exchange does not serve this place ({country[:2] or 'unknown country'})", remedy)
    return green("geoblock", "this place is served")


def judge_standing(*, is_closed_only: bool) -> Finding:
    """Judge what the account may do."""
    if is_closed_only:
        remedy = "Ask the support of the exchange why; until then positions can only be reduced, by hand."
        return red("standing", "the account may only reduce positions", remedy)
    return green("standing", "the account may open positions")


def judge_balance(balance: int, *, exposure_max: Notional) -> Finding:
    """Judge the collateral, micro-dollars."""
    found = f"${balance / MICRO:,.2f}, the limits allow ${exposure_max / MICRO:,.2f} at risk"
    if balance < MICRO:
        remedy = "Deposit on the exchange's web page, into the wallet of `funder`; check signature_type as well."
        return red(BALANCE, found, remedy)
    return green(BALANCE, found)


def judge_tier(tier: str, limits: LimitSettings) -> Finding:
    """Judge whether we send slower than the exchange allows; a name we do not know says nothing."""
    known = TIERS.get(tier.lower())
    if known is None:
        return yellow("rate tier", f"{tier[:40] or 'not told'}", "Keep the limits of the Standard tier, the defaults.")
    found = (
        f"{tier}: {known[0]} orders/s, {known[1]} cancels/s; settings {limits.orders_per_s:g}, {limits.cancels_per_s:g}"
    )
    if limits.orders_per_s > known[0] or limits.cancels_per_s > known[1]:
        remedy = f"Set limits.orders_per_s to {known[0]} and limits.cancels_per_s to {known[1]} or less."
        return red("rate tier", found, remedy)
    return green("rate tier", found)


def judge_market(market: Market) -> Finding:
    """Judge whether a market takes orders."""
    check = MARKET + (market.slug or market.market_id)
    if not market.is_accepting_orders:
        return red(check, TAKES_NO_ORDERS, "Take it out of the settings, or wait until it opens.")
    return green(check, f"takes orders, tick {market.tick / MICRO:g}")


def judge_limits(limits: RiskLimits, markets: Sequence[Market]) -> Finding:
    """Judge whether any order within the limits is one that the exchange, and each of these markets, takes."""
    check = "limits"
    if found := misfits(limits, markets):
        return red(check, "; ".join(found), "Set what it names; until then nothing is traded.")
    if not markets:
        return yellow(check, "no market to hold order_size_max against", NAME_MARKET)
    least = text_from_micro(max(market.size_min for market in markets))
    return green(check, f"orders of up to {text_from_micro(limits.order_size_max)} shares, of at least {least} taken")


def judge_feed(first_s: float | None, *, within_s: float) -> Finding:
    """Judge how long the first book took, in seconds; None = none came."""
    if first_s is None:
        remedy = "Look at the exchange's status page, and whether a firewall lets WebSocket connections out."
        return red("feed", f"no book within {within_s:g} s", remedy)
    return green("feed", f"first book after {first_s * 1e3:.0f} ms")


def approvals_needed(markets: Sequence[Market], *, chain_id: int) -> tuple[Approval, ...]:
    """Name what the wallet must have allowed to trade some markets, and nothing beyond."""
    found: dict[tuple[str, str], Approval] = {}
    for market in markets:
        tokens, spender = _contracts(market, chain_id)
        for token, example in ((("pUSD", COLLATERAL), ""), (tokens, str(market.yes))):
            approval = Approval(
                token=token[0],
                token_address=token[1],
                is_amount=not example,
                spender=spender[0],
                spender_address=spender[1],
                example=example,
            )
            found.setdefault((token[0], spender[0]), approval)
    return tuple(found.values())


def judge_approval(
    approval: Approval, allowances: Mapping[str, str] | None, *, wallet: str, needed: Notional
) -> Finding:
    """Judge one approval.

    Args:
        approval: What is needed.
        allowances: Allowed by spender, as the exchange told it: base units, "0" = none; None = not told.
        wallet: Who has to allow it.
        needed: Micro-dollars that must be allowed of the collateral.
    """
    told = {spender.lower(): text for spender, text in (allowances or {}).items()}
    text = told.get(approval.spender_address.lower(), "")
    if not (text.isascii() and text.isdigit()):
        remedy = f"Look {approval.spender_address} up among the approvals of {wallet} in a chain explorer."
        return yellow(approval.check, "the exchange does not tell it", remedy)
    if int(text) >= (needed if approval.is_amount else 1):
        return green(approval.check, "allowed")
    call = f"approve({approval.spender_address}, amount)" if approval.is_amount else _for_all(approval)
    remedy = f"From {wallet} call {call} on {approval.token} {approval.token_address}, or trade once on the web page."
    amount = f", ${int(text) / MICRO:,.2f} of ${needed / MICRO:,.2f}" if approval.is_amount else ""
    return red(approval.check, f"not allowed{amount}", remedy)


def _for_all(approval: Approval) -> str:
    return f"setApprovalForAll({approval.spender_address}, true)"


def _contracts(market: Market, chain_id: int) -> tuple[tuple[str, str], tuple[str, str]]:
    exchange = exchange_contract(market.yes, is_neg_risk=market.is_neg_risk, chain_id=chain_id).address
    if is_position_id(market.yes):
        return ("PositionManager", POSITION_MANAGER), ("Exchange V3", exchange)
    name = "Neg-risk Exchange V2" if market.is_neg_risk else "Exchange V2"
    return ("Conditional Tokens", CONDITIONAL_TOKENS), (name, exchange)
