"""The words of the logs: every event there is, what it means and what its line carries. `docs/logs.md` shows the table.

A test holds every log call of the code against it: no event without an entry, no entry without a call, no other field.
Every line of a daemon also carries `vault`, `level` and `timestamp`; whatever belongs to an order carries `order_id`.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Word(NamedTuple):
    """What an event means, and the fields its line may carry; `more` where it passes on what it was given."""

    meaning: str
    fields: tuple[str, ...]
    more: bool = False


VOCABULARY: Final[dict[str, Word]] = {
    # a run
    "run.started": Word("a run began with an empty journal", ("run", "batches", "orders_in_doubt", "state")),
    "run.recovered": Word("a run goes on where its journal ended", ("run", "batches", "orders_in_doubt", "state")),
    "run.connected": Word("the venues of a live feed are connected", ("venues", "listed")),
    "run.failing": Word("the daemon ends because of an error, and cancels what rests", ("error",)),
    "run.orders_left": Word("orders that may still rest at a venue after the end", ("order_ids",)),
    "run.transactions_left": Word(
        "transactions under way at the end: mined, or void by their deadline", ("order_ids", "void_after")
    ),
    "run.stuck": Word("a daemon has not decided for too long: the service manager is told nothing", ("vaults",)),
    "run.manager_unheard": Word("the service manager cannot be told", ("error",)),
    # what is decided, and what becomes of it
    "command.sent": Word(
        "a command was handed over: an order, a cancel, a question, a transfer",
        ("kind", "order_id", "instrument", "qty_lots", "reason", "plan_id"),
        more=True,
    ),
    "command.withheld": Word("a command was not handed over: a halt is marked", ("order_id", "transfer_id", "why")),
    "command.ignored": Word("a command that means nothing on a chain", ("command",)),
    "order.told": Word("what a venue or a chain said of an order or of money", ("order_id", "kind", "text")),
    "order.not_sent": Word("a hedge on a chain was not sent: its price is gone", ("order_id", "why")),
    "order.reverted": Word("a hedge on a chain reverted on its limit", ("order_id", "why")),
    "order.gone": Word("a hedge left the chain again", ("order_id", "state", "why")),
    "order.unknown": Word("what became of an order cannot be told yet", ("order_id", "why")),
    "order.unreadable": Word("a mined hedge whose receipt cannot be read", ("order_id", "tx", "why")),
    "fill.odd": Word("a fill of no whole lots", ("order_id", "base", "lot_base")),
    # people
    "operator.command": Word(
        "an operator's command was carried out", ("action", "issuer", "reason", "state", "command_id", "text")
    ),
    "operator.refused": Word(
        "an operator's command was not carried out", ("action", "issuer", "command_id", "refusal", "why")
    ),
    "operator.transaction": Word("an operator canceled a transaction or sped it up", ("chain", "action", "key")),
    "halt.marked": Word("the halt marker stands: the engine halts", ("issuer", "reason")),
    "transfer.ordered": Word("an operator's word on a transfer", ("action", "transfer_id", "issuer", "why_not")),
    # venues and chains
    "venue.changed": Word("a venue's health changed", ("venue", "health", "reason")),
    "account.not_known": Word("a venue's word on our account is missing; it is asked again", ("venue", "why")),
    "account.warning": Word("something about an account that a person should know", ("venue", "warning")),
    "feed.delisted": Word("an instrument is listed no more", ("instrument_id", "reason")),
    "feed.reconnects": Word("a stream of market data is connected anew", ("venue", "stream", "reason")),
    "feed.trouble": Word("a question to a venue failed", ("venue", "what", "error")),
    "feed.unknown_instrument": Word("a venue speaks of an instrument it does not list", ("venue", "instrument_id")),
    "chain.reorg": Word("blocks left the chain", ("chain", "gone", "came")),
    "chain.fees_not_known": Word("a chain's fees cannot be read", ("chain", "why")),
    # risk
    "risk.changed": Word("buffers, conditions or breakers changed", ("of", "change")),
    "collateral.planned": Word("a collateral plan came", ("plan_id", "method", "fault")),
    "collateral.lacks": Word("a collateral plan that falls short", ("plan_id", "method", "fault", "missing")),
    "transfer.changed": Word(
        "a transfer of collateral changed its state, or waits for a person",
        ("id", "state", "reason", "instruction", "problem"),
    ),
    "transfer.blind": Word("what arrives at a venue is not seen", ("venue", "problem")),
    "margin.not_told": Word("a venue does not tell its margin parameters", ("venue", "why")),
    "counterparty.page": Word("a page about a counterparty failed, or answers again", ("party", "page", "problem")),
    "series.changed": Word("a series of the market went down, or can be read again", ("series", "state", "problem")),
    "series.unusable": Word("series that the vault names cannot be read at all", ("problem",)),
    "book.read": Word("a file of the book was read anew", ("file", "holdings")),
    "book.refused": Word("a file of the book was refused; the old one stays in force", ("problem",)),
    # the windows
    "http.failed": Word("a page of metrics or health could not be made", ("path",)),
    "window.failed": Word("a window broke and is begun again", ("window", "why", "again_s")),
    "windows.ended": Word("the windows' process ended and is started again", ("code", "again_s")),
    "windows.failed": Word("the windows' process cannot be kept", ("why",)),
    # commands that come as messages
    "commands.open": Word("commands are taken from the broker", ("vaults", "broker")),
    "command.taken": Word("a signed command was found good", ("vault", "action", "command_id", "issuer")),
    "command.answered": Word("what became of it", (), more=True),
    "command.failed": Word("a command could not be carried out", ("vault", "action", "command_id")),
    "command.refused": Word(
        "a command was refused; `more` were for the same reason since the last line", ("vault", "why", "text", "more")
    ),
    "command.unreadable": Word("a line of the file of known commands cannot be read", ("path", "line")),
    "operator.reload": Word("a vault file was read again", ("changes", "issuer", "reason", "why_not")),
    "journal.replaced": Word(
        "another journal stands where one was followed; it is told from its start", ("vault", "run")
    ),
    "cursor.unreadable": Word(
        "up to where a journal was published cannot be read; all is told again", ("path", "error")
    ),
    # alerts
    "alert.acknowledged": Word("somebody has seen an alert", ("alert_id", "issuer", "why_not")),
    "alert.escalated": Word("a critical alert nobody acknowledged", ("vault", "state", "reason")),
    "alert.not_escalated": Word("the daemon could not be made reduce-only; it is tried again", ("vault", "why")),
    "alert.undelivered": Word(
        "a destination does not take alerts; they are kept and tried again", ("destination", "error")
    ),
    "alert.delivered_again": Word("it takes them again", ("destination", "failures")),
    "alert.lost": Word("an alert was given up for a destination", ("alert_id", "destination")),
    "alert.memory_unread": Word("what was known of alerts before the start cannot be read", ("path", "error")),
    "alert.memory_unwritten": Word("what is known of alerts cannot be kept", ("path", "error")),
    # the dashboard
    "dashboard.login": Word("somebody logged in", ("user", "address")),
    "dashboard.login_refused": Word("a login was refused", ("address",)),
    "dashboard.audit_unreadable": Word("a journal cannot be read for the audit log", ("error",)),
    "dashboard.page_broken": Word("a page cannot be drawn, and says that it is old", ("user",)),
    "dashboard.order": Word("an operator gave an order on a page", ("user", "vault", "action")),
    "dashboard.order_refused": Word("an order on a page was refused", ("user", "why")),
    "subject.failed": Word("something failed for the first time", ("subject",), more=True),
    "subject.recovered": Word("it works again", ("subject", "failures"), more=True),
}


def table() -> str:
    """Return the vocabulary as a table in Markdown, as `docs/logs.md` has it."""
    rows = ["| Event | Means | Fields |", "|---|---|---|"]
    for name, word in VOCABULARY.items():
        fields = ", ".join(f"`{field}`" for field in word.fields) + (" and what it was given" if word.more else "")
        rows.append(f"| `{name}` | {word.meaning} | {fields} |")
    return "\n".join(rows)
