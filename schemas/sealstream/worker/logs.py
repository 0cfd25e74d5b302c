"""Logs: one JSON object a line on standard error, or coloured lines for a person at a terminal.

Every line carries ``timestamp, level, event, role`` first; places are called ``tenant, seq, topic, partition, offset``.
Payloads and secrets never stand in a log line.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from sealstream.kafka.client import KAFKA_LOG
from sealstream.worker.repeats import Repeats

_ORDER: Final = ("timestamp", "level", "event", "role", "tenant", "seq", "topic", "partition", "offset")


def configure(role: str, *, level: str = "info", format: Literal["auto", "json", "console"] = "auto") -> None:  # noqa: A002
    """Set up logging for this process, its libraries' loggers included.

    Arguments:
        role: What this process is: ``processor``, ``sink``, ``verifier``.
        level: The least level that is logged.
        format: ``json``, ``console``, or ``auto``: console if standard error is a terminal.
    """
    console = format == "console" or (format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_role(role),
        structlog.processors.format_exc_info,
    ]
    renderer: list[Processor] = (
        [structlog.dev.ConsoleRenderer()] if console else [_order, structlog.processors.JSONRenderer(sort_keys=False)]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    KAFKA_LOG.filters[:] = [Repeats()]
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def logger() -> structlog.stdlib.BoundLogger:
    """Return the logger that roles use: ``logger().info("batch chained", partition=3, records=120)``."""
    if not structlog.is_configured():  # in a command, whose output is its result alone
        structlog.configure(
            logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        )
    log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sealstream")
    return log


def _add_role(role: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("role", role)
        return event

    return add


def _order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put the keys that people look for first, in one order."""
    first = {name: event.pop(name) for name in _ORDER if name in event}
    return {**first, **event}
