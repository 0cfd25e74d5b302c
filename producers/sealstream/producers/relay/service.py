"""The process ``sealstream outbox relay``."""

from __future__ import annotations

import logging
from typing import Final

from sealstream.producers.relay.worker import Relay
from sealstream.schemas.errors import ConfigError, SealstreamError
from sealstream.worker import logs
from sealstream.worker.logs import logger
from sealstream.worker.repeats import Repeats
from sealstream.worker.settings import Settings
from sealstream.worker.stop import END_SECONDS, StopSignal
from sealstream.worker.web import WorkerWeb

STOPPED: Final = 0
FAILED: Final = 1
MISCONFIGURED: Final = 2
_TRANSPORT_LOG: Final = "sealstream.producers.transport"


def run(settings: Settings) -> int:
    """Run the worker until SIGTERM or SIGINT.

    Returns:
        0 after an orderly stop; 1 after an error that needs a person, 2 where the settings are at fault. The error
        stands in the log with what to do.
    """
    logs.configure("outbox", level=settings.log_level, format=settings.log_format)
    logging.getLogger(_TRANSPORT_LOG).filters[:] = [Repeats()]
    stop = StopSignal()
    stop.install(end_within_seconds=END_SECONDS)
    relay: Relay | None = None
    web: WorkerWeb | None = None
    try:
        relay = Relay(settings, stop)
        web = WorkerWeb(settings.web_host, settings.web_port, healthy=relay.healthy, ready=relay.ready)
        web.start()
        relay.run()
    except SealstreamError as error:
        logger().error("stopped", error=type(error).__name__, reason=error.message, hint=error.hint)
        return MISCONFIGURED if isinstance(error, ConfigError) else FAILED
    finally:
        if relay is not None:
            relay.close()
        if web is not None:
            web.stop()
    logger().info("stopped in order")
    return STOPPED
