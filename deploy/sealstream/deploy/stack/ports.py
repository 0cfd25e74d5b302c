"""Loopback ports for the servers of the stack."""

from __future__ import annotations

import atexit
import random
import socket
import sys
from collections import deque
from pathlib import Path

from sealstream.deploy.stack.errors import StackError

LOOPBACK = "127.0.0.1"
_LOWEST_PORT = 20_000
_TRIES_MAX = 200
_EPHEMERAL_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_EPHEMERAL_LOW_DEFAULT = 32_768
_HELD_MAX = 400
_chance = random.SystemRandom()
_held: deque[socket.socket] = deque()


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: connections that linger in TIME_WAIT do not keep them from listening again.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port(*, taken: frozenset[int] = frozenset()) -> int:
    """Choose a free loopback port below the ports that the system gives to outgoing connections.

    A server that is stopped and started again on the same port must find it free: from the ephemeral range, some
    client's connection might have taken it meanwhile. From other processes that choose by this function it is kept as
    well, on Linux, for as long as this process lives or until it has chosen 400 others.

    Arguments:
        taken: Ports chosen already for servers that do not listen yet.

    Raises:
        StackError: No free port was found.
    """
    highest = _ephemeral_low() - 1
    for _ in range(_TRIES_MAX):
        port = _chance.randint(min(_LOWEST_PORT, highest), highest)
        if port not in taken and _hold(port):
            return port
    raise StackError(f"no free port on {LOOPBACK} between {_LOWEST_PORT} and {highest}")


def _hold(port: int) -> bool:
    """Bind a port, and keep it bound, if nobody else has; a server that sets ``SO_REUSEADDR`` can listen on it still.

    Between the choice of a port and a server's listening on it seconds pass, and with many stacks starting side by side
    two of them did choose alike.
    """
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.bind((LOOPBACK, port))  # without SO_REUSEADDR: what another process holds is not ours
    except OSError:
        holder.close()
        return False
    if sys.platform != "linux":  # elsewhere a second socket cannot be bound beside it
        holder.close()
        return True
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _held.append(holder)
    while len(_held) > _HELD_MAX:
        _held.popleft().close()
    return True


@atexit.register
def _let_go() -> None:
    while _held:
        _held.pop().close()


def _ephemeral_low() -> int:
    try:
        low = int(_EPHEMERAL_RANGE_FILE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _EPHEMERAL_LOW_DEFAULT  # not Linux: its usual range serves as well as any
    return low if low > _LOWEST_PORT + _TRIES_MAX else _EPHEMERAL_LOW_DEFAULT
