from __future__ import annotations

import inspect

import pytest

from relay import budget, conversation
from relay.server import line
from tests import fakes


def shape(owner: type) -> dict[str, tuple[list[str], bool]]:
    """Public methods with their parameters, and whether they are awaited."""
    methods = inspect.getmembers(owner, inspect.isfunction)
    return {
        name: (list(inspect.signature(method).parameters), inspect.iscoroutinefunction(method))
        for name, method in methods
        if not name.startswith("_")
    }


@pytest.mark.parametrize(
    ("contract", "real"),
    [
        (line.Line, conversation.Pipeline),
        (line.Line, fakes.RecordingLine),
        (line.Conversation, conversation.Conversation),
        (line.Conversation, fakes.RecordingConversation),
        (line.Budget, budget.Budget),
        (line.Reservation, budget.Reservation),
    ],
)
def test_contract_is_kept(contract: type, real: type) -> None:
    """What stands behind the edge has every method of the contract, with its parameters."""
    missing = {name: parts for name, parts in shape(contract).items() if shape(real).get(name) != parts}

    assert {} == missing
