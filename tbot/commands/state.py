"""The state folder as the doctor sees it: whether it is ours, on a good disk, and whether its journal says halted."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from tbot.commands.disk import disk_findings
from tbot.config import TradingSettings
from tbot.core.account import Account
from tbot.core.units import NANOS_PER_S
from tbot.errors import ConfigError, StateCorrupt
from tbot.exchanges.polymarket.judgement import Finding, green, red
from tbot.exchanges.polymarket.keys import SigningKey
from tbot.exchanges.polymarket.wallets import trading_wallet
from tbot.store.folder import StateFolder
from tbot.store.journal import peek
from tbot.tasks.coordinator import rebuild_alone
from tbot.trading import owner_of_state, resume_command

_FOLDER = "state folder"


def state_findings(settings: TradingSettings, key: SigningKey | None, config: Path) -> list[Finding]:
    """Look at the state of a bot that does not run; nothing in it is changed.

    Args:
        settings: Of the bot.
        key: Of the account; None = there is none, which the caller has said already.
        config: Where the settings stand, for what to type.
    """
    state = Path(settings.state)
    try:
        with closing(StateFolder.open(state)) as folder:
            owner = _owner(settings, key)
            loaded = peek(folder, owner) if owner is not None else None
            halted = judge_halt(rebuild_alone(loaded, settings.limits).account, config) if loaded is not None else None
            found = [green(_FOLDER, f"{state} is ours"), *disk_findings(state)]
            return found if halted is None else [*found, halted]
    except (StateCorrupt, ConfigError) as error:
        return [red(_FOLDER, str(error), "Do what it says, or name another folder in state.")]
    except OSError as error:
        return [red(_FOLDER, f"{state}: {error.strerror}", "Name a state folder on a disk that works.")]


def judge_halt(account: Account, config: Path) -> Finding:
    """Judge whether the journal leaves the bot free to trade at its next start.

    Args:
        account: As the next start finds it.
        config: Settings of the bot.
    """
    if not account.halt_reason:
        return green("halt", "the journal knows of none")
    remedy = f"Find out why, as docs/runbook.md says; then {resume_command(config)} lets the next start trade."
    return red("halt", f"halted{_since(account.halted_ns)}: {account.halt_reason}", remedy)


def _since(halted_ns: int) -> str:
    return f" since {moment_text(halted_ns)}" if halted_ns else ""


def moment_text(at_ns: int) -> str:
    """Write a moment for people, in UTC to the second."""
    return datetime.fromtimestamp(at_ns // NANOS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _owner(settings: TradingSettings, key: SigningKey | None) -> str | None:
    """Name whose state it must be; None while nobody can tell, which is red elsewhere."""
    if settings.mode == "paper":
        return owner_of_state(settings, None)
    if key is None:
        return None
    try:
        return owner_of_state(settings, trading_wallet(key.address, settings.exchange))
    except ConfigError:
        return None
