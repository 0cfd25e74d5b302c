"""What must be there before workers run: the instance's topics, and its store. Both at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from sealstream.deploy.interruption import Interruption
from sealstream.kafka.admin import TopicAdmin
from sealstream.schemas.errors import ConfigError
from sealstream.sinks.store.migrate import migrate
from sealstream.worker.settings import Settings

_POLL_SECONDS = 0.05


def prepare(settings: Settings, interruption: Interruption) -> None:
    """Create the topics that are missing, check all of them, and bring the store to this version.

    Raises:
        ConfigError: A topic is not as it must be.
        Interrupted: A signal came; what had begun was brought to its end.
        StoreError: The store refuses.
        Unreachable: Kafka or PostgreSQL does not answer.
    """
    with ThreadPoolExecutor(2, thread_name_prefix="prepare") as pool:
        tasks = [pool.submit(_topics, settings), pool.submit(_store, settings)]
        while not all(task.done() for task in tasks):
            interruption.pause(_POLL_SECONDS)
    for task in tasks:
        task.result()


def _topics(settings: Settings) -> None:
    admin = TopicAdmin(settings.connection(), timeout_seconds=settings.request_timeout_seconds)
    table = settings.topic_table()
    created = set(admin.create(table, replication=settings.replication))
    existing = [spec for spec in table if spec.name not in created]
    if not existing:
        return
    wrong = [finding for finding in admin.check(existing) if finding.fatal]
    if wrong:
        first = wrong[0]
        raise ConfigError(
            f"topic {first.topic}: {first.setting} is {first.found}, not {first.expected}",
            hint="sealstream topics check shows all differences",
        )


def _store(settings: Settings) -> None:
    migrate(settings.database_url(), partitions=settings.partitions, timeout_seconds=settings.request_timeout_seconds)
