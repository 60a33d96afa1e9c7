"""conf/*.toml -> typed frozen settings, or a refusal to start.

Each module declares the struct of its own settings; the root struct composes them, and `load` fills it. All are frozen,
keyword-only; no key may be unknown to them. A refusal is one sentence that an editor can jump to:

    conf/sim.toml:12: strategies[0].chase_ticks: expected int <= 50, found 99

Money. A field typed `Price`, `Size` or `Notional` is written in TOML as a decimal in quotes ("12.5" dollars or shares)
and arrives as an integer in millionths, like everywhere else in tbot. Bare numbers are refused there: TOML would read
12.1 as a float, and 12 leaves open whether dollars or millionths were meant. Ranges are stated in millionths, by
`Annotated[Size, msgspec.Meta(ge=...)]`, and printed in dollars or shares.

Secrets never stand in TOML; see `tbot.secret`.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from tbot.core.risk import RiskLimits
from tbot.core.units import Notional, Price, Size, micro_from_text, text_from_micro
from tbot.errors import ConfigError
from tbot.exchanges.paper.settings import PaperSettings
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.store.recordings import RecorderSettings
from tbot.strategies.liquidity import LiquiditySettings
from tbot.strategies.roster import check_names
from tbot.tasks.checkpointer import CheckpointSettings
from tbot.tasks.feed_settings import FeedSettings

_MONEY: Final = (Price, Size, Notional)
_A_DECIMAL: Final = "a decimal in quotes"
_FOUND_LENGTH_MAX: Final = 60
# A billion dollars or shares: beyond it is a slip of the finger, and products would leave the 64 bits of the journal.
_MONEY_MAX: Final = 10**15
_FILE_BYTES_MAX: Final = 1 << 20

SHIPPED: Final = Path(__file__).parent / "shipped"
"""Links into conf/, which building a package turns into copies: an installed tbot has settings wherever it is run."""

Root = TypeVar("Root", bound=msgspec.Struct)
_Where = tuple[str | int, ...]  # keys and indices from the root of the document


class TradingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of conf/live.toml: a bot on a real exchange.

    Attributes:
        mode: "paper" = live data, orders filled on paper; "live" = real orders.
        state: Folder of the bot's state.
        exchange: Where, which wallet, which markets.
        limits: What the bot may risk.
        strategies: Which strategies trade, each on every market.
        feed: The market feed's clocks.
        checkpoint: How often the state is saved.
        paper: The paper account; only in mode "paper".
        recorder: Where raw market data is kept; without this section it is not.
    """

    mode: Literal["paper", "live"]
    exchange: PolymarketSettings
    limits: RiskLimits
    strategies: Annotated[tuple[LiquiditySettings, ...], msgspec.Meta(min_length=1)]
    state: Annotated[str, msgspec.Meta(min_length=1)] = "state"
    feed: FeedSettings = FeedSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    paper: PaperSettings = PaperSettings()
    recorder: RecorderSettings | None = None

    def __post_init__(self) -> None:
        """Refuse strategies that could not be told apart."""
        check_names(self.strategies)


def settings_file(name: str) -> Path:
    """Name the settings of a command that needs none of its owner's: conf/NAME.toml, or the ones inside the package.

    Args:
        name: "exchange" or "sim".
    """
    own = Path("conf", f"{name}.toml")
    return own if own.exists() else SHIPPED / own.name


def describe_file(path: Path) -> str:
    """Name a settings file to people; of one inside the package they learn how to replace it."""
    return (
        str(path) if path.parent != SHIPPED else f"{path}, which come with tbot (conf/{path.name} would replace them)"
    )


def load(path: Path, root: type[Root]) -> Root:
    """Read a settings file into its struct.

    Args:
        path: A TOML file; shown in messages as given.
        root: The struct to fill. Unknown keys are refused in it and in every struct inside.

    Raises:
        ConfigError: The file cannot be read, is no TOML, or a value is unknown, missing, of the wrong type or out of
            range: `file:line: path: what, expected, found`. Only the first fault is named.
    """
    text = _text_of(path)
    document = _document_of(path, text)
    hints: dict[_Where, Any] = {}
    try:
        settings: Root = _converted(_exact(document, root, (), hints), root, (), document, hints)
    except _Refused as refused:
        line = _line_of(text, refused.where)
        raise ConfigError(f"{path}:{line}: {_dotted(refused.where, refused.leaf)}{refused.what}") from None
    return settings


class _Refused(Exception):
    """A fault at a place in the document; `leaf` names a key that is not there."""

    def __init__(self, where: _Where, what: str, *, leaf: str = "") -> None:
        super().__init__(what)
        self.where, self.what, self.leaf = where, what, leaf


# --- reading ----------------------------------------------------------------------------------------------------------


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
        if len(data) > _FILE_BYTES_MAX:
            raise ConfigError(f"{path}: expected a settings file of at most {_FILE_BYTES_MAX} bytes, found more")
        return data.decode()
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable settings file, found: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, found a stray byte at offset {error.start}") from error


def _document_of(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).rpartition(" (at ")
        found = re.match(r"line (\d+), column (\d+)", place)
        line, column = found.groups() if found else (str(text.count("\n") + 1), "end")
        raise ConfigError(f"{path}:{line}: syntax error, column {column}: {what}") from error


# --- filling the structs ----------------------------------------------------------------------------------------------


def _exact(value: Any, hint: Any, where: _Where, hints: dict[_Where, Any]) -> Any:
    # One walk over document and types side by side: turns money into integers, and notes the type of every place,
    # which the explanation of a later refusal needs.
    hints[where] = hint = _bare(hint)
    if _is_money(hint):
        return _micro(value, where)
    if isinstance(value, float) and not math.isfinite(value):
        raise _Refused(where, f"expected a finite number, found {value}")
    if isinstance(value, dict):
        _demand_known_keys(hint, value, where)
        return {key: _exact(value[key], _inside(hint, value, key), (*where, key), hints) for key in value}
    if isinstance(value, list):
        return [_exact(item, _inside(hint, value, i), (*where, i), hints) for i, item in enumerate(value)]
    return value


def _micro(value: Any, where: _Where) -> int:
    if not isinstance(value, str):
        raise _Refused(where, f'expected {_A_DECIMAL} such as "12.5", found {_shown(value)}')
    try:
        micro = micro_from_text(value)
    except ValueError:
        what = f"expected {_A_DECIMAL}, at most six places, found {_shown(value)}"
        raise _Refused(where, what) from None
    if abs(micro) > _MONEY_MAX:
        raise _Refused(where, f"expected at most {text_from_micro(_MONEY_MAX)}, found {_shown(value)}")
    return micro


def _demand_known_keys(hint: Any, table: dict[str, Any], where: _Where) -> None:
    # Not left to msgspec: a struct of the core that forgets to forbid unknown fields is checked all the same.
    struct = _struct_of(hint, table)
    if struct is None:
        return
    known = [*filter(None, [struct.__struct_config__.tag_field]), *_types_of(struct)]
    for key in table:
        if key not in known:
            raise _Refused((*where, key), f"unknown key, {_suggestion(key, known)}")


def _types_of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.encode_name: field.type for field in msgspec.structs.fields(struct)}


def _converted(value: Any, hint: Any, where: _Where, document: Any, hints: dict[_Where, Any]) -> Any:
    try:
        return msgspec.convert(value, hint, strict=True)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        steps = _steps(path.removesuffix("`"))
    if "..." not in steps:
        raise _explained(what, (*where, *steps), document, hints)
    # msgspec does not say which entry of a free table is at fault; they are converted one by one to find it.
    inner = steps[: steps.index("...")]
    place, entries = (*where, *inner), _at(value, inner)
    for key in entries if isinstance(entries, dict) else range(len(entries)):
        _converted(entries[key], _inside(hints[place], {}, key), (*place, key), document, hints)
    raise _Refused(place, _lower(what))


def _bare(hint: Any) -> Any:
    # TOML has no null, so an optional field is judged like a plain one.
    if get_origin(hint) is Annotated:
        return _bare(get_args(hint)[0])
    arms = [arm for arm in get_args(hint) if arm is not type(None)]
    return _bare(arms[0]) if get_origin(hint) in (Union, UnionType) and len(arms) == 1 else hint


def _is_money(hint: Any) -> bool:
    return any(hint is kind for kind in _MONEY)


def _struct_of(hint: Any, table: dict[str, Any]) -> type[msgspec.Struct] | None:
    arms = [_bare(arm) for arm in get_args(hint)] if get_origin(hint) in (Union, UnionType) else [hint]
    structs = [arm for arm in arms if isinstance(arm, type) and issubclass(arm, msgspec.Struct)]
    for struct in structs:
        rules = struct.__struct_config__
        if len(structs) == 1 or (rules.tag_field is not None and table.get(rules.tag_field) == rules.tag):
            return struct
    return None


def _inside(hint: Any, value: Any, key: str | int) -> Any:
    struct = _struct_of(hint, value) if isinstance(value, dict) else None
    if struct is not None:
        return _types_of(struct).get(str(key), object)
    arguments = get_args(hint)
    if not arguments or get_origin(hint) in (Union, UnionType, Literal):
        return object
    if isinstance(key, int) and len(arguments) > key and Ellipsis not in arguments:
        return arguments[key]
    return arguments[0] if isinstance(key, int) else arguments[-1]


# --- explaining a refusal ---------------------------------------------------------------------------------------------


def _explained(what: str, where: _Where, document: Any, hints: dict[_Where, Any]) -> _Refused:
    if missing := re.fullmatch(r"Object missing required field `(.+)`", what):
        return _Refused(where, "missing, expected a value, found none", leaf=missing[1])
    found = f"found {_shown(_at(document, where))}"
    if choices := _choices(hints, where):
        return _Refused(where, f"expected one of {', '.join(choices)}, {found}")
    if expected := re.fullmatch(r"Expected (.+?)(?:, got .+)?", what):
        return _Refused(where, f"expected {_readable(expected[1], is_money=_is_money(hints.get(where)))}, {found}")
    return _Refused(where, _lower(what))  # a rule of the struct itself, in its own words


def _readable(expected: str, *, is_money: bool) -> str:
    plain = expected.replace("`", "").replace(" | null", "").replace("object", "table")
    if not is_money:
        return plain
    return re.sub(r"-?\d+", lambda number: text_from_micro(int(number[0])), plain.replace("int", _A_DECIMAL))


def _choices(hints: dict[_Where, Any], where: _Where) -> list[str]:
    hint = hints.get(where)
    if get_origin(hint) is Literal:
        return [_shown(choice) for choice in get_args(hint)]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return [_shown(member.value) for member in hint]
    arms = get_args(hints.get(where[:-1]))
    structs = [arm for arm in arms if isinstance(arm, type) and issubclass(arm, msgspec.Struct)]
    return [_shown(arm.__struct_config__.tag) for arm in structs if arm.__struct_config__.tag_field == where[-1]]


def _suggestion(key: str, keys: list[str]) -> str:
    close = difflib.get_close_matches(key, keys, n=1)
    return f"expected {close[0]}, found {key}" if close else f"expected one of {', '.join(keys)}, found {key}"


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "an array"
    if isinstance(value, str | bool | int | float):
        text = json.dumps(value)
        return text if len(text) <= _FOUND_LENGTH_MAX else text[:_FOUND_LENGTH_MAX] + "..."
    return str(value)


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


# --- places -----------------------------------------------------------------------------------------------------------


def _steps(path: str) -> _Where:
    # "strategies[0].edge" after the "$." of msgspec; "..." stands for any key of a free table.
    parts = re.findall(r"\[(\d+|\.\.\.)\]|\.([^.\[]+)", path)
    return tuple(int(index) if index.isdigit() else index or key for index, key in parts)


def _at(document: Any, where: _Where) -> Any:
    for step in where:
        document = document[step]
    return document


def _dotted(where: _Where, leaf: str) -> str:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in (*where, *filter(None, [leaf])))
    return f"{path.removeprefix('.')}: " if path else ""


def _line_of(text: str, where: _Where) -> int:
    # TOML is read from the top, so a place is written by the statement that ends the first readable beginning of the
    # file that holds it. True for every way of writing TOML, where scanning for headers and keys is not.
    lines, begin = text.split("\n"), 1
    for end in range(1, len(lines) + 1):
        try:
            _at(tomllib.loads("\n".join(lines[:end]) + "\n"), where)
        except tomllib.TOMLDecodeError:
            continue
        except LookupError:
            begin = end + 1
        else:
            return begin
    return begin
