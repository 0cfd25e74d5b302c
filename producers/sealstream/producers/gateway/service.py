"""The gateway as a process: its settings, its parts, its web ports, and its end."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Final

from sealstream.kafka.admin import TopicAdmin
from sealstream.producers import AuditLog
from sealstream.producers.gateway.application import Gateway
from sealstream.producers.gateway.authentication import Authentication
from sealstream.producers.gateway.bodies import Bodies
from sealstream.producers.gateway.buckets import Buckets
from sealstream.producers.gateway.derivation import Derivation, parse_secret
from sealstream.producers.gateway.endpoint import Publishing
from sealstream.producers.gateway.issuer_keys import IssuerKeys, fetch_from
from sealstream.producers.gateway.key_file import WatchedKeys
from sealstream.producers.gateway.probe import KafkaProbe
from sealstream.producers.gateway.protocol import Bounds
from sealstream.producers.gateway.publisher import Publisher
from sealstream.producers.gateway.server import GatewayServer
from sealstream.producers.gateway.tokens import TokenRules, parse_algorithms
from sealstream.producers.registry.configured import configured_schema_id
from sealstream.schemas.errors import ConfigError, DeliveryError, FormatError, SealstreamError
from sealstream.worker import logs
from sealstream.worker.logs import logger
from sealstream.worker.settings import Settings, load_settings
from sealstream.worker.stop import END_SECONDS, StopSignal
from sealstream.worker.web import WorkerWeb

STOPPED: Final = 0
FAILED: Final = 1
UNUSABLE: Final = 2
"""The exit code where a setting or a file is wrong, and nothing has begun."""

_LINGER_SECONDS: Final = 0.002
"""How long an event waits for others on its way to Kafka: each request to a broker costs both sides.

Measured side by side at 1,500 requests a second: with 10 ms half of them take 9 ms, with 5 ms 6, with 2 ms 3, for about
a seventh more of the gateway's CPU time, at 5 ms as at 2. At full load others come at once, and it costs a twentieth.
"""
_CLOSE_SECONDS: Final = 1.0
_PROBE_SECONDS_MAX: Final = 5.0


class Service:
    """The worker: everything it holds.

    Arguments:
        settings: Its settings.
        stop: Tells it to stop.
    """

    def __init__(self, settings: Settings, stop: StopSignal) -> None:
        self._settings = settings
        self._stop = stop
        self._server: GatewayServer | None = None
        self._probe: KafkaProbe | None = None
        self._authentication: Authentication | None = None

    def healthy(self) -> bool:
        """Return whether the server's loop turns."""
        return self._server is None or self._server.healthy()

    def ready(self) -> tuple[bool, str]:
        """Return whether events are taken, and in words what is waited for."""
        if self._stop.is_set():
            return False, "stopping"
        if self._server is None or self._probe is None or self._authentication is None:
            return False, "starting"
        away = "" if self._settings.gateway_spool is not None else self._probe.problem
        problem = self._authentication.problem or away
        return not problem, problem or "ready"

    def run(self) -> None:
        """Serve until told to stop.

        Raises:
            SealstreamError: A setting is wrong, or Kafka, the source topic or the registry, if one is set, is not there
                at the start.
        """
        settings = self._settings
        derivation = Derivation(parse_secret(settings.gateway_secret.get_secret_value()))
        authentication = authentication_of(settings)
        schema_id = configured_schema_id(settings)
        audit = AuditLog(
            kafka=settings.connection(),
            instance=settings.instance,
            topics=settings.topics(),
            schema_id=schema_id,
            linger_seconds=_LINGER_SECONDS,
            delivery_timeout_seconds=settings.gateway_delivery_seconds,
            close_timeout_seconds=_CLOSE_SECONDS,
            spool=settings.gateway_spool,
        )
        publishing = Publishing(
            instance=settings.instance,
            authentication=authentication,
            buckets=Buckets(settings.gateway_burst_events),
            events_per_second=settings.gateway_events_per_second,
            bodies=Bodies(settings.gateway_body_bytes_max),
            derivation=derivation,
            publisher=Publisher(
                audit,
                has_spool=settings.gateway_spool is not None,
                timeout_seconds=settings.gateway_delivery_seconds,
                schema_id=schema_id,
            ),
        )
        bounds = Bounds(settings.gateway_connections_max, settings.gateway_request_seconds)
        with ExitStack() as stack:
            server = GatewayServer(
                Gateway(publishing), settings.gateway_host, settings.gateway_port, bounds=bounds, stop=self._stop
            )
            stack.callback(server.close)
            probe = probe_of(settings)
            probe.start()
            stack.callback(probe.stop)
            self._server, self._probe, self._authentication = server, probe, authentication
            server.run(audit.__aenter__, lambda: _close(audit))


async def _close(audit: AuditLog) -> None:
    """End the audit log; who waits for an event that it gives up is answered so."""
    try:
        await audit.close()
    except DeliveryError as error:
        logger().warning(error.message, hint=error.hint)


def probe_of(settings: Settings) -> KafkaProbe:
    """Return what asks the settings' Kafka for the source topic."""
    admin, topic = TopicAdmin(settings.connection(), timeout_seconds=_PROBE_SECONDS_MAX), settings.topics().events
    return KafkaProbe(lambda: topic in admin.describe([topic]), topic)


def authentication_of(settings: Settings) -> Authentication:
    """Return what knows the credentials that the settings name.

    Raises:
        ConfigError: They name none, or not all of what is needed.
    """
    keys = None if settings.gateway_keys is None else WatchedKeys(settings.gateway_keys)
    if not settings.gateway_issuer:
        if keys is None:
            raise ConfigError(
                "neither SEALSTREAM_GATEWAY_KEYS nor SEALSTREAM_GATEWAY_ISSUER is set",
                hint="sealstream gateway-keys new FILE --tenant TENANT",
            )
        return Authentication(keys, None, None)
    for name in ("gateway_audience", "gateway_jwks_url"):
        if not getattr(settings, name):
            raise ConfigError(
                f"SEALSTREAM_{name.upper()} is not set", hint="it is needed beside SEALSTREAM_GATEWAY_ISSUER"
            )
    rules = TokenRules(
        issuer=settings.gateway_issuer,
        audience=settings.gateway_audience,
        algorithms=parse_algorithms(settings.gateway_algorithms),
        tenant_claim=settings.gateway_tenant_claim,
        scope=settings.gateway_scope,
    )
    return Authentication(keys, IssuerKeys(fetch_from(settings.gateway_jwks_url), rules.algorithms), rules)


def run(settings: Settings) -> int:
    """Run the gateway until SIGTERM or SIGINT.

    Returns:
        The process's exit code: 0 after an orderly stop; 1 after an error that needs a person; 2 where a setting or a
        file is wrong.
    """
    logs.configure("gateway", level=settings.log_level, format=settings.log_format)
    stop = StopSignal()
    stop.install(end_within_seconds=END_SECONDS)
    service = Service(settings, stop)
    web: WorkerWeb | None = None
    try:
        web = WorkerWeb(settings.web_host, settings.web_port, healthy=service.healthy, ready=service.ready)
        web.start()
        service.run()
    except SealstreamError as error:
        logger().error(error.message, error=type(error).__name__, hint=error.hint)
        return UNUSABLE if isinstance(error, ConfigError | FormatError) else FAILED
    finally:
        if web is not None:
            web.stop()
    logger().info("stopped")
    return STOPPED


def main() -> int:
    """Run the gateway with the settings of the environment, and return its exit code."""
    try:
        settings = load_settings()
    except SealstreamError as error:
        sys.stderr.write(f"{error}\n")
        return UNUSABLE
    return run(settings)
