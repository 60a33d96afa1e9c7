"""`tbot resume`: a person looks at a halted bot that does not run, and lets its next start trade.

The journal alone is asked, nobody else. What the person says becomes one more record of it, so that the next start and
every replay after it hear of it where they heard of the halt.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
import structlog

from tbot import log
from tbot.commands.live import check_confirmed
from tbot.commands.state import moment_text
from tbot.config import TradingSettings, load
from tbot.core.account import Account
from tbot.core.drift import asset_name, describe
from tbot.core.market import CASH
from tbot.core.messages import Resume
from tbot.core.units import MICRO, Nanos
from tbot.errors import ConfigError
from tbot.exchanges.polymarket.environment import signing_key_of
from tbot.exchanges.polymarket.wallets import trading_wallet
from tbot.log import text_clean
from tbot.store.database import FILE_NAME
from tbot.store.journal import Store
from tbot.store.rows import RecordRow
from tbot.tasks.clock import WallClock
from tbot.tasks.coordinator import rebuild_alone
from tbot.trading import log_file, owner_of_state
from tbot.ui.terminal import tell

NAME_LENGTH_MAX: Final = 50
TEXT_LENGTH_MAX: Final = 600

_log = structlog.get_logger()
_encoder = msgspec.msgpack.Encoder()


class ResumeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    Attributes:
        config: Settings of the bot.
        confirm: The last six hex digits of the wallet that trades; None = only look.
    """

    config: Path
    confirm: str | None


def resume(options: ResumeOptions, environ: Mapping[str, str] = os.environ) -> int:
    """Tell why a bot is halted; when it is confirmed, record that a person ends the halt.

    Args:
        options: The command line.
        environ: Holds the key, which names the wallet.

    Returns:
        0 when the next start trades.

    Raises:
        ConfigError: Nothing is halted, it is not confirmed, the bot runs, or the state is of another account; nothing
            was changed.
        StateCorrupt: The state cannot be used as it is; it is untouched.
        WriteFailed: The disk did not take the record; nothing was changed.
    """
    settings = load(options.config, TradingSettings)
    wallet, state = _wallet(settings, environ), Path(settings.state)
    if not (state / FILE_NAME).exists():
        raise ConfigError(f"{state}: nothing is halted: there is no journal")
    owner = owner_of_state(settings, wallet)
    with closing(Store.open(state, owner)) as store:
        loaded = store.tail()
        account = rebuild_alone(loaded, settings.limits).account
        if not account.halt_reason:
            raise ConfigError(f"{state}: nothing is halted; the next start trades as it is")
        tell(page(account, owner), sys.stdout)
        if wallet is not None:
            check_confirmed(options.confirm, wallet, otherwise="nothing was changed")
        _record(store, account, seq=loaded.record_seq + 1, log_file=log_file(settings))
    tell(f"\nResumed: the next tbot {settings.mode} trades.\n", sys.stdout)
    return 0


def page(account: Account, owner: str) -> str:
    """Draw what a person must know before resuming.

    Args:
        account: As the next start would find it.
        owner: Whose it is.
    """
    since = f"since {moment_text(account.halted_ns)}" if account.halted_ns else "(since when is not on record)"
    lines = [f"tbot resume: {owner}.", "", f"Halted {since}: {account.halt_reason}.", "", *_holdings(account), ""]
    if resting := len(account.orders.active()):
        lines.append(f"{resting} orders may still rest; the next start cancels or keeps them as it finds them.")
    return "\n".join(text_clean(line, TEXT_LENGTH_MAX) for line in [*lines, *_consequences(account)]) + "\n"


def _holdings(account: Account) -> Iterator[str]:
    ledger = account.ledger
    if ledger is None:
        yield "The exchange was never heard of."
        return
    yield f"{'':<{NAME_LENGTH_MAX}} {'ledger':>14} {'exchange':>14} {'differs by':>14}"
    yield _row("cash, $", ledger.cash, account.offsets.get(CASH, 0), account.drift.get(CASH, 0))
    known = dict.fromkeys((*ledger.tokens(), *account.offsets, *account.drift))
    for token in known:
        held, offset, differs = ledger.position(token).size, account.offsets.get(token, 0), account.drift.get(token, 0)
        if token != CASH and (held or offset or differs):
            yield _row(asset_name(account, token), held, offset, differs)
    yield f"As reported last, {moment_text(account.reported_ns)}; what was accepted before differs no more."


def _row(name: str, ledger: int, offset: int, differs: int) -> str:
    told = f"{differs / MICRO:,.2f}" if differs else ""
    clean = text_clean(name, NAME_LENGTH_MAX)
    exchange = ledger + offset + differs
    return f"{clean:<{NAME_LENGTH_MAX}} {ledger / MICRO:>14,.2f} {exchange / MICRO:>14,.2f} {told:>14}".rstrip()


def _consequences(account: Account) -> Iterator[str]:
    if account.drift:
        yield f"With --confirm what the exchange holds is taken for true: {describe(account, account.drift)}."
    if account.halt_profit is not None:
        yield f"With --confirm the loss limit counts from a profit of ${account.halt_profit / MICRO:,.2f} on."
    else:
        yield "The loss limit counts on: what is lost stays lost."


def _record(store: Store, account: Account, *, seq: int, log_file: Path) -> None:
    at_ns: Nanos = WallClock().now_ns()
    accepted = tuple(account.drift.items())
    fact = Resume(at_ns=at_ns, accepted=accepted, profit=account.halt_profit)
    with log.set_up(file=log_file, terminal=None):
        store.write([RecordRow(seq=seq, at_ns=at_ns, kind=Resume.__name__, payload=_encoder.encode(fact))])
        _log.warning(
            "trading.resumed",
            halt=account.halt_reason,
            accepted=describe(account, account.drift) if accepted else "nothing differs",
        )


def _wallet(settings: TradingSettings, environ: Mapping[str, str]) -> str | None:
    """Name the wallet that trades; None = on paper."""
    if settings.mode == "paper":
        return None
    return trading_wallet(signing_key_of(environ).address, settings.exchange)
