"""Kafka and PostgreSQL in containers, where a Docker daemon answers."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Generator

import docker
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer

from sealstream.deploy.stack.kafka import BROKER_SETTINGS, KAFKA_VERSION
from sealstream.deploy.stack.ports import free_port

KAFKA_IMAGE = f"apache/kafka:{KAFKA_VERSION}"
DATABASE_IMAGE = "postgres:18"
_KAFKA_PORT = 9092
_DATABASE_PORT = 5432
_DOCKER_TIMEOUT_SECONDS = 3


def daemon_answers() -> bool:
    """Tell whether a Docker daemon answers at once."""
    try:
        client = docker.from_env(timeout=_DOCKER_TIMEOUT_SECONDS)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except DockerException:
        return False


@contextlib.contextmanager
def kafka() -> Generator[str]:
    """Run Kafka with the embedded broker's settings; give its bootstrap servers, which may not answer yet."""
    port = free_port()
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(_KAFKA_PORT, port)
    address = f"{container.get_container_host_ip()}:{port}"
    settings = {
        "node.id": "1",
        "process.roles": "broker,controller",
        "controller.quorum.voters": "1@localhost:9093",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://0.0.0.0:{_KAFKA_PORT},CONTROLLER://localhost:9093",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "advertised.listeners": f"PLAINTEXT://{address}",
        **BROKER_SETTINGS,
    }
    for key, value in settings.items():
        container.with_env(f"KAFKA_{key.upper().replace('.', '_')}", value)
    with container:
        yield address


@contextlib.contextmanager
def database() -> Generator[str]:
    """Run PostgreSQL; give its superuser's URL, which may not answer yet."""
    password = secrets.token_urlsafe(16)
    container = DockerContainer(DATABASE_IMAGE).with_exposed_ports(_DATABASE_PORT)
    with container.with_env("POSTGRES_PASSWORD", password):
        address = f"{container.get_container_host_ip()}:{container.get_exposed_port(_DATABASE_PORT)}"
        yield f"postgresql://postgres:{password}@{address}/postgres"
