"""Django, set up as far as the tests of what speaks to it need."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any, cast
from urllib.parse import urlsplit

import django  # type: ignore[import-untyped]  # Django has no types
from django.conf import settings  # type: ignore[import-untyped]
from django.core.management import call_command  # type: ignore[import-untyped]
from django.db import connections, transaction  # type: ignore[import-untyped]


def set_up() -> None:
    """Set Django up once in this process."""
    if not settings.configured:
        settings.configure(
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            ALLOWED_HOSTS=["*"],
            INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
            SEALSTREAM_TRUSTED_PROXIES=["10.0.0.0/8"],
            SECRET_KEY="tests only",
            USE_TZ=True,
        )
        django.setup()


@contextlib.contextmanager
def database(alias: str, url: str) -> Generator[Any]:
    """Let Django know a database, and close what it has opened there in the end."""
    set_up()
    parts = urlsplit(url)
    known = cast("dict[str, dict[str, Any]]", connections.databases)
    kept = known.get(alias)
    known[alias] = known["default"] | {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username or "",
        "PASSWORD": parts.password or "",
        "HOST": parts.hostname or "",
        "PORT": parts.port or "",
    }
    with contextlib.suppress(AttributeError):
        del connections[alias]  # loading models may have opened the one that was known under this name
    connection = cast("Any", connections[alias])
    try:
        yield connection
    finally:
        connection.close()
        del connections[alias]
        if kept is None:
            del known[alias]
        else:
            known[alias] = kept


@contextlib.contextmanager
def atomic(alias: str, *, rollback: bool = False) -> Generator[None]:
    """Run a block in a transaction of Django's, which commits or is rolled back."""
    with cast("Any", transaction).atomic(using=alias):
        yield
        if rollback:
            cast("Any", transaction).set_rollback(True, using=alias)


def migrate() -> None:
    """Make the tables of Django's own models in the default database, which is in memory."""
    set_up()
    call_command("migrate", verbosity=0)
