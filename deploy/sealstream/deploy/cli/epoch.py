"""``sealstream epoch start | follow``: the chains go on in other topics, with more partitions or in another cluster."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sealstream.deploy.cli.output import (
    ExitCode,
    JsonOption,
    confirmed,
    print_fields,
    print_items,
    print_json,
    print_line,
)
from sealstream.deploy.cli.settings import kafka_settings
from sealstream.schemas.errors import ConfigError

if TYPE_CHECKING:
    from sealstream.kafka.client import KafkaConnection
    from sealstream.processors.epochs import Plan
    from sealstream.worker.settings import Settings

_PANEL = "Mend"
_group = typer.Typer(
    help="Go on in other topics: more partitions, a topic made anew, another cluster.", no_args_is_help=True
)

FromOption = Annotated[
    str, typer.Option("--from-kafka", help="Bootstrap servers of the old epoch, if it is on another cluster.")
]
WaitOption = Annotated[
    float, typer.Option("--wait", min=0, help="Seconds that the old epoch may still take to come to its end.")
]
GoneOption = Annotated[
    bool,
    typer.Option("--source-gone", help="The old source topic was deleted: what it held and was not chained is lost."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_group, name="epoch", rich_help_panel=_PANEL)


@_group.command()
def start(
    *,
    by: Annotated[str, typer.Option(help="Who starts it.")],
    why: Annotated[str, typer.Option(help="Why.")],
    from_kafka: FromOption = "",
    wait_seconds: WaitOption = 0.0,
    source_gone: GoneOption = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """End the old epoch and carry all chains over to the one that SEALSTREAM_EPOCH names.

    Run it with the settings of the new epoch. Before, stop the publishers or move them to the new topics, let the
    workers of the old epoch chain what is left, and stop them. Safe to run again: it goes on where it was.
    """
    settings, old = _settings(from_kafka, as_json=as_json, yes=yes)
    from sealstream.processors.epochs import Start, carry_out, has_begun, prepare

    if settings.epoch > 1 and has_begun(settings):
        _tell(
            {"started": False, "epoch": settings.epoch}, f"epoch {settings.epoch} was started before", as_json=as_json
        )
        return
    asked = Start(settings=settings, old=old, source_gone=source_gone, by=by, why=why)
    plan = prepare(asked, wait_seconds=wait_seconds)
    if not as_json:
        print_fields(_fields(plan))
    if not yes and not confirmed(f"End epoch {settings.epoch - 1}, and start epoch {settings.epoch}?"):
        print_line("nothing was changed", error=True)
        raise typer.Exit(ExitCode.FAILED)
    carry_out(plan)
    if as_json:
        print_json({"started": True, "epoch": settings.epoch} | _document(plan))
        return
    print_line(f"epoch {settings.epoch} is started. Now")
    print_items(
        (
            f"migrate the store, and start processors and sinks, with SEALSTREAM_EPOCH={settings.epoch},",
            "keep a sink and a verifier of the old epoch until they have done all of it,",
            "then run `sealstream epoch follow`, and start verifiers of the new epoch,",
            "start the recomputing witness of the new epoch: it cosigns what is left of the old one as well,",
            f"let publishers publish to {settings.topics().events}.",
        ),
        numbered=True,
    )


@_group.command()
def follow(
    *,
    from_kafka: FromOption = "",
    wait_seconds: WaitOption = 0.0,
    source_gone: GoneOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let the verifier follow: carry what it has verified over to the epoch that SEALSTREAM_EPOCH names.

    Run it with the verifier's credentials and the settings of the new epoch, once it has verified all of the old one
    and is stopped. It trusts nothing that `epoch start` wrote. Safe to run again.
    """
    settings, old = _settings(from_kafka, as_json=as_json, yes=True)
    from sealstream.sinks.verifier.epochs import follow as carry

    followed = carry(settings, old, source_gone=source_gone, wait_seconds=wait_seconds)
    text = f"the verifier follows: {followed.chains} chains" if followed.done else "the verifier has followed before"
    document = {"followed": followed.done, "epoch": settings.epoch, "chains": followed.chains}
    _tell(document, text, as_json=as_json)


def _settings(from_kafka: str, *, as_json: bool, yes: bool) -> tuple[Settings, KafkaConnection]:
    if as_json and not yes:
        raise ConfigError("--json does not ask", hint="give --yes as well")
    settings = kafka_settings("epoch")
    connection = settings.connection()
    return settings, replace(connection, bootstrap=from_kafka) if from_kafka else connection


def _tell(document: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        print_line(text)


def _document(plan: Plan) -> dict[str, object]:
    return {
        "partitions": {"old": plan.old_partitions, "new": len(plan.carried)},
        "chains": plan.chains,
        "left": list(plan.left),
        "positions": plan.positions,
        "source_gone": plan.start.source_gone,
    }


def _fields(plan: Plan) -> list[tuple[str, str]]:
    settings = plan.start.settings
    records = sum(plan.positions.values())
    fields = [
        ("epoch", f"{settings.epoch - 1} ends, {settings.epoch} begins"),
        ("instance", settings.instance),
        ("source", f"{plan.start.old_topics.events} -> {settings.topics().events}"),
        ("partitions", f"{plan.old_partitions} -> {len(plan.carried)}"),
        ("old epoch", f"chained to its end: {records} offsets" if not plan.start.source_gone else "its source is gone"),
        ("chains", f"{plan.chains} go on"),
    ]
    if plan.left:
        fields.append(("end here", ", ".join(plan.left)))
    if plan.start.source_gone:
        fields.append(("lost", "what the old source held and was not chained, if anything; no entry will say so"))
    if plan.ended:
        fields.append(("again", "the old epoch was ended by an earlier run"))
    return fields
