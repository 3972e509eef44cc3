"""What would happen to a recipient, and why: the rule, the sources, every certificate, the reply.

`outcome` asks and decides, `records` tells it to programs, `text` to people.
"""

from __future__ import annotations

from relay.explain.outcome import NULL_SENDER, Explanation, explain, needs_attention, together
from relay.explain.records import as_dict, certificates_as_dicts, pin_as_dict, reply_as_dict, verdict_as_dict
from relay.explain.text import (
    add_decision,
    add_row,
    add_verdict,
    as_table,
    pin_text,
    plain,
    reply_text,
    two_columns,
    verdict_text,
)

__all__ = [
    "NULL_SENDER",
    "Explanation",
    "add_decision",
    "add_row",
    "add_verdict",
    "as_dict",
    "as_table",
    "certificates_as_dicts",
    "explain",
    "needs_attention",
    "pin_as_dict",
    "pin_text",
    "plain",
    "reply_as_dict",
    "reply_text",
    "together",
    "two_columns",
    "verdict_as_dict",
    "verdict_text",
]
