"""``sealstream topics create | check``: the instance's topics."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

import typer

from sealstream.deploy.cli.output import ExitCode, JsonOption, print_json, print_line, print_table

_PANEL = "Set up"
_group = typer.Typer(help="Create the instance's topics, or check them.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_group, name="topics", rich_help_panel=_PANEL)


@_group.command()
def create(*, as_json: JsonOption = False) -> None:
    """Create the topics that do not exist yet; safe to run again. Existing ones are only checked."""
    from sealstream.kafka.admin import TopicAdmin
    from sealstream.worker.settings import load_settings

    settings = load_settings()
    admin = TopicAdmin(settings.connection(), timeout_seconds=settings.request_timeout_seconds)
    table = settings.topic_table()
    created = admin.create(table, replication=settings.replication)
    existing = [spec.name for spec in table if spec.name not in created]
    if as_json:
        print_json({"created": created, "existing": existing})
        return
    for name in created:
        print_line(f"created {name}")
    for name in existing:
        print_line(f"exists  {name}")
    if existing:
        print_line("`sealstream topics check` compares the existing ones with what they must be like", error=True)


@_group.command()
def check(*, as_json: JsonOption = False) -> None:
    """Compare the topics with what they must be like. Exit code 1 if a worker must not run like this."""
    from sealstream.kafka.admin import REPLICATION_SAFE, TopicAdmin
    from sealstream.worker.settings import load_settings

    settings = load_settings()
    admin = TopicAdmin(settings.connection(), timeout_seconds=settings.request_timeout_seconds)
    findings = admin.check(settings.topic_table())
    fatal = [finding for finding in findings if finding.fatal]
    if as_json:
        print_json({"ok": not fatal, "findings": findings})
    elif findings:
        rows = [
            ("wrong" if finding.fatal else "unsafe", finding.topic, finding.setting, finding.expected, finding.found)
            for finding in findings
        ]
        print_table(("severity", "topic", "setting", "expected", "found"), rows)
        if any(finding.setting == "replication" for finding in findings):
            print_line(
                f"unsafe: with fewer than {REPLICATION_SAFE} replicas the loss of one broker can lose events",
                error=True,
            )
    else:
        print_line(f"{len(settings.topic_table())} topics are as they must be")
    if fatal:
        if not as_json:
            print_line(f"error: {len(fatal)} settings are wrong: workers must not run like this", error=True)
            missing = any(finding.setting == "exists" for finding in fatal)
            print_line(f"hint: {_hint(missing=missing)}", error=True)
        raise typer.Exit(ExitCode.FOUND)


def _hint(*, missing: bool) -> str:
    if missing:
        return "sealstream topics create"
    return "change the topics with your cluster's tools; a wrong number of partitions needs a new epoch"
