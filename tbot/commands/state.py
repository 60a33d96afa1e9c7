"""The state folder as the doctor sees it: whether it is ours, on a good disk, and what its journal says."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tbot.commands.disk import disk_findings
from tbot.config import TradingSettings
from tbot.errors import ConfigError, StateCorrupt
from tbot.exchanges.polymarket.judgement import Finding, green, red
from tbot.exchanges.polymarket.keys import SigningKey
from tbot.exchanges.polymarket.wallets import trading_wallet
from tbot.store.folder import StateFolder
from tbot.store.journal import peek
from tbot.trading import owner_of_state

_FOLDER = "state folder"


def state_findings(settings: TradingSettings, key: SigningKey | None) -> list[Finding]:
    """Look at the state of a bot that does not run; nothing in it is changed.

    Args:
        settings: Of the bot.
        key: Of the account; None = there is none, which the caller has said already.
    """
    state = Path(settings.state)
    try:
        with closing(StateFolder.open(state)) as folder:
            owner = _owner(settings, key)
            if owner is not None:
                peek(folder, owner)
            return [green(_FOLDER, f"{state} is ours"), *disk_findings(state)]
    except (StateCorrupt, ConfigError) as error:
        return [red(_FOLDER, str(error), "Do what it says, or name another folder in state.")]
    except OSError as error:
        return [red(_FOLDER, f"{state}: {error.strerror}", "Name a state folder on a disk that works.")]


def _owner(settings: TradingSettings, key: SigningKey | None) -> str | None:
    """Name whose state it must be; None while nobody can tell, which is red elsewhere."""
    if settings.mode == "paper":
        return owner_of_state(settings, None)
    if key is None:
        return None
    exchange = settings.exchange
    try:
        wallet = trading_wallet(key.address, signature_type=exchange.signature_type, funder=exchange.funder)
    except ConfigError:
        return None
    return owner_of_state(settings, wallet)
