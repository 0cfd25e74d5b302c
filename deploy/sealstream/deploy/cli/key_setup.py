"""``sealstream keys secret | policy``: what stands beside the keys of an instance and its witnesses."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sealstream.deploy.cli.output import JsonOption, print_json, print_line
from sealstream.schemas.errors import ConfigError

if TYPE_CHECKING:
    from sealstream.schemas.note_key import VerifierKey
    from sealstream.schemas.policy import Policy

_GROUP_NAME = "witnesses"


def register(group: typer.Typer) -> None:
    """Add the commands to ``sealstream keys``."""
    group.command()(secret)
    group.command()(policy)


def secret(
    *,
    file: Annotated[Path, typer.Option(help="The new file for the secret; never overwritten.")],
    as_json: JsonOption = False,
) -> None:
    """Make the secret that hides tenants' names in the tenant map: for the notary and the witness that recomputes.

    It stays for ever. Without it no proof can be made of what was notarised with it.
    """
    from sealstream.schemas.tenant_map import MAP_SECRET_BYTES
    from sealstream.worker.key_file import write_secret

    write_secret(file, f"{secrets.token_hex(MAP_SECRET_BYTES)}\n".encode())
    if as_json:
        print_json({"file": str(file)})
    else:
        print_line(f"secret in {file}: keep a copy where nobody else comes to", error=True)


def policy(
    log: Annotated[str, typer.Argument(help="The log's verifier key, or the file of its private key.")],
    *,
    file: Annotated[Path, typer.Option(help="The new file for the policy; never overwritten.")],
    witness: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=KEY[@URL]",
            help="A witness that you believe: what you call it, its verifier key or its private key's file, and where "
            "it takes checkpoints. Give one after the other.",
        ),
    ] = None,
    url: Annotated[str, typer.Option(help="Where the log is published, if it is.")] = "",
    quorum: Annotated[
        int | None, typer.Option(min=1, help="How many of the witnesses must have cosigned.", show_default="all")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a policy: whom its reader believes. It is given to readers apart from what they check with it."""
    from sealstream.schemas.policy import NO_QUORUM, Group, Log, Policy, Witness
    from sealstream.worker.key_file import write_new

    witnesses = tuple(Witness(*_witness(one)) for one in witness or ())
    names = tuple(one.name for one in witnesses)
    if quorum is not None and not names:
        raise ConfigError("a quorum of no witnesses", hint="name them by --witness, or leave --quorum away")
    groups = (Group(_GROUP_NAME, quorum or len(names), names),) if len(names) > 1 else ()
    counts = _GROUP_NAME if groups else (names[0] if names else NO_QUORUM)
    found = Policy((Log(_key(log), url),), witnesses, groups, counts)
    write_new(file, found.pack())
    _report(found, file, as_json=as_json)


def _report(found: Policy, file: Path, *, as_json: bool) -> None:
    if as_json:
        document = {"log": str(found.logs[0].key), "witnesses": {one.name: str(one.key) for one in found.witnesses}}
        print_json(document | {"quorum": found.quorum, "file": str(file)})
        return
    print_line(f"policy in {file}: give it to everybody who verifies, and never beside what he verifies", error=True)
    typer.echo(found.pack().decode(), nl=False)


def _witness(given: str) -> tuple[str, VerifierKey, str]:
    name, equals, rest = given.partition("=")
    if not equals or not name or not rest:
        raise ConfigError(f"{given[:80]!r} is no witness", hint="--witness NAME=KEY or NAME=KEY@URL")
    key, _, url = rest.partition("@")
    return name, _key(key), url


def _key(given: str) -> VerifierKey:
    """Return a verifier key: given as it is, or that of a private key's file."""
    from sealstream.schemas.note_key import VerifierKey
    from sealstream.worker.key_file import read_key

    path = Path(given)
    return read_key(path).verifier if path.is_file() else VerifierKey.parse(given)
