from __future__ import annotations

from dataclasses import replace

from relay.server.settings import Settings
from tests.unit.server.edge import Edge


async def test_new_parts_serve_new_connections(edge: Edge) -> None:
    """A reload drops nobody: open connections keep their settings, new ones get the new."""
    old = await edge.start()
    port = old.writer.get_extra_info("peername")[1]
    edge.server.parts = replace(edge.server.parts, settings=Settings("new.example"))
    new = await edge.dial(port)

    assert "220 new.example ESMTP" == await new.reply()
    assert "250 relay.example" == await old.ask("HELO x")
