"""What a connection must keep to where no clock of a test could wait for it: clients that do not read."""

from __future__ import annotations

import asyncio
from unittest.mock import MagicMock

import pytest
import uvicorn
from uvicorn.server import ServerState

from sealstream.producers.gateway.protocol import BoundedProtocol, Bounds


class Protocol(BoundedProtocol):
    """One with bounds."""

    bounds = Bounds(connections_max=2, request_seconds=60)


def connected(state: ServerState) -> tuple[Protocol, MagicMock]:
    """Return a connection, and the transport under it."""
    config = uvicorn.Config(MagicMock(), ws="none", lifespan="off", log_config=None)
    protocol = Protocol(config, state, {}, _loop=asyncio.get_running_loop())
    transport = MagicMock(spec=asyncio.Transport)
    transport.is_closing.return_value = False
    transport.get_extra_info.return_value = None
    protocol.connection_made(transport)
    return protocol, transport


@pytest.mark.parametrize(("unread", "ending"), [(1, "abort"), (0, "close")])
async def test_a_client_that_does_not_read_is_cut_off(unread: int, ending: str) -> None:
    """After the idle time a connection is closed; one whose answer still waits to be read is not waited for."""
    protocol, transport = connected(ServerState())
    transport.get_write_buffer_size.return_value = unread

    protocol.timeout_keep_alive_handler()

    assert [call for call in ("abort", "close") if getattr(transport, call).called] == [ending]
    protocol.connection_lost(None)


async def test_one_connection_too_many_is_not_held() -> None:
    """A connection beyond the bound is cut at once, takes no place, and gives none back when it ends."""
    state = ServerState()
    first, _ = connected(state)
    second, _ = connected(state)
    third, transport = connected(state)

    assert transport.abort.called
    third.connection_lost(None)
    assert len(state.connections) == 2
    for protocol in (first, second):
        protocol.connection_lost(None)
    assert not state.connections
