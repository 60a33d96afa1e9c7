"""Every struct that crosses a task boundary, grouped by direction.

Facts are ordered and never dropped. States are conflated: only the newest matters. Commands flow from the coordinator
to the dispatcher. All are frozen, tagged by class name and keyword-only; a receiver never edits one.

Times: `exchange_ms` = when the exchange says it happened (Unix milliseconds), `*_ns` = our wall clock (Nanos).
Prices, sizes and notionals are integers in millionths (see `core.units`).
"""

from __future__ import annotations

from tbot.core.messages.commands import CancelOrder, Command, RequestReport, SubmitOrder
from tbot.core.messages.exchange import (
    AccountEvent,
    AccountGap,
    BookDelta,
    BookSnapshot,
    Fill,
    Gap,
    Level,
    MarketEvent,
    OrderState,
    OrderUpdate,
    TickSizeChanged,
    TradePrint,
    TradeStatus,
)
from tbot.core.messages.intents import (
    CancelAll,
    Flatten,
    Halt,
    OperatorCommand,
    Quote,
    Quotes,
    Resume,
    Stop,
    Take,
    Withdraw,
)
from tbot.core.messages.replies import (
    Accepted,
    Canceled,
    CancelRefused,
    CancelReply,
    DispatcherFact,
    ExchangeReport,
    OpenOrder,
    OrderLookup,
    OutcomeUnknown,
    Prepared,
    Rejected,
    SubmitReply,
    Throttled,
)
from tbot.core.messages.states import (
    AccountView,
    MarketView,
    OrderExposure,
    PositionRow,
    RestingOrder,
    Snapshot,
    TopOfBook,
)
from tbot.core.messages.vocabulary import (
    ClientOrderId,
    ExchangeOrderId,
    Message,
    OrderType,
    RejectCode,
    Role,
    Settlement,
    Side,
    StrategyName,
    TradeId,
)

Fact = AccountEvent | DispatcherFact | ExchangeReport | Take | Withdraw | OperatorCommand

__all__ = [
    "Accepted",
    "AccountEvent",
    "AccountGap",
    "AccountView",
    "BookDelta",
    "BookSnapshot",
    "CancelAll",
    "CancelOrder",
    "CancelRefused",
    "CancelReply",
    "Canceled",
    "ClientOrderId",
    "Command",
    "DispatcherFact",
    "ExchangeOrderId",
    "ExchangeReport",
    "Fact",
    "Fill",
    "Flatten",
    "Gap",
    "Halt",
    "Level",
    "MarketEvent",
    "MarketView",
    "Message",
    "OpenOrder",
    "OperatorCommand",
    "OrderExposure",
    "OrderLookup",
    "OrderState",
    "OrderType",
    "OrderUpdate",
    "OutcomeUnknown",
    "PositionRow",
    "Prepared",
    "Quote",
    "Quotes",
    "RejectCode",
    "Rejected",
    "RequestReport",
    "RestingOrder",
    "Resume",
    "Role",
    "Settlement",
    "Side",
    "Snapshot",
    "Stop",
    "StrategyName",
    "SubmitOrder",
    "SubmitReply",
    "Take",
    "Throttled",
    "TickSizeChanged",
    "TopOfBook",
    "TradeId",
    "TradePrint",
    "TradeStatus",
    "Withdraw",
]
