"""The settings of commands that look at Kafka and mend what is there."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sealstream.kafka.client import KAFKA_LOG

if TYPE_CHECKING:
    from sealstream.worker.settings import Settings


def kafka_settings(command: str) -> Settings:
    """Return the settings, and let nothing be said beside what the command prints but warnings.

    Arguments:
        command: The command's name, for the log.

    Raises:
        ConfigError: A setting is wrong, or ``SEALSTREAM_KAFKA`` is not set.
    """
    from sealstream.worker import logs
    from sealstream.worker.settings import load_settings

    settings = load_settings()
    settings.connection()
    logs.configure(command, level="warning")
    KAFKA_LOG.setLevel(logging.CRITICAL)  # each attempt to connect; the error says it once
    return settings
