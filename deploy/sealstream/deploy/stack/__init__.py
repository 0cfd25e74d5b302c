"""The local stack: real Kafka and PostgreSQL without Docker, Java or an installation, for demonstrations and tests."""

from sealstream.deploy.stack.errors import StackError
from sealstream.deploy.stack.java import JavaTuning
from sealstream.deploy.stack.leftover import erase, stop_left_running
from sealstream.deploy.stack.local import LocalStack
from sealstream.deploy.stack.locations import cache_directory, default_directory
from sealstream.deploy.stack.state import StackState, read_state

__all__ = [
    "JavaTuning",
    "LocalStack",
    "StackError",
    "StackState",
    "cache_directory",
    "default_directory",
    "erase",
    "read_state",
    "stop_left_running",
]
