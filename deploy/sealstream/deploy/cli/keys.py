"""``sealstream keys new | list | rotate | secret | policy``: the keys by which an instance and its witnesses sign."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sealstream.deploy.cli import key_setup
from sealstream.deploy.cli.output import (
    ExitCode,
    JsonOption,
    print_fields,
    print_json,
    print_line,
    print_table,
    printable,
)
from sealstream.deploy.cli.times import time_option
from sealstream.schemas.errors import ConfigError, SealstreamError

if TYPE_CHECKING:
    from sealstream.schemas.key_history import KeyHistory, Rotation
    from sealstream.schemas.note_key import KeyType, SignerKey, VerifierKey

_PANEL = "Set up"
_FILES_MAX = 1_000
_COLUMNS = ("file", "name", "type", "id", "from", "until", "problem")
KEY_SUFFIX = ".key"
ROTATION_SUFFIX = ".rotation"
_group = typer.Typer(help="Keys that sign: make, look at, rotate.", no_args_is_help=True)


class Role(StrEnum):
    """Who signs with a key."""

    LOG = "log"
    WITNESS = "witness"


class Algorithm(StrEnum):
    """How a key signs."""

    ED25519 = "ed25519"
    ML_DSA_44 = "ml-dsa-44"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    key_setup.register(_group)
    app.add_typer(_group, name="keys", rich_help_panel=_PANEL)


@_group.command()
def new(
    name: Annotated[str, typer.Argument(help="The key's name: for a log its origin, such as example.com/audit.")],
    *,
    file: Annotated[Path, typer.Option(help="The new file for the private key; never overwritten.")],
    role: Annotated[Role, typer.Option(help="Who signs with it.")] = Role.LOG,
    algorithm: Annotated[Algorithm, typer.Option(help="How it signs.")] = Algorithm.ED25519,
    as_json: JsonOption = False,
) -> None:
    """Make a key. The private one goes into a file for you alone; printed is the verifier key, for everybody else."""
    from sealstream.schemas.note_key import SignerKey
    from sealstream.worker.key_file import write_key

    key = SignerKey.generate(name, _type(role, algorithm))
    write_key(file, key)
    if as_json:
        print_json(_document(key.verifier) | {"file": str(file)})
        return
    print_line(f"private key in {file}: keep a copy where nobody else comes to", error=True)
    typer.echo(printable(str(key.verifier)))  # whole, however long: it is copied


@_group.command("list")
def show(
    paths: Annotated[
        list[Path],
        typer.Argument(help=f"Files, or directories of *{KEY_SUFFIX} and *{ROTATION_SUFFIX}."),
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show keys: name, type, verifier key, and the time in which each is in use. Exit code 2 if one cannot be used."""
    keys, records = _files(paths)
    history = _history(records)
    rows = [_row(path, history) for path in keys]
    if as_json:
        print_json(rows)
    else:
        cells = [
            [row.get(column) for column in ("file", "name", "type", "id", "from", "until", "problem")] for row in rows
        ]
        print_table(("file", "name", "type", "id", "from", "until", "problem"), cells)
    if any("problem" in row for row in rows):
        raise typer.Exit(ExitCode.FAILED)


@_group.command()
def rotate(
    old: Annotated[Path, typer.Argument(help="The file of the private key that goes.")],
    *,
    file: Annotated[Path, typer.Option(help="The new file for the private key that comes; never overwritten.")],
    record: Annotated[
        Path, typer.Option(help="The new file for the record, which everybody who verifies needs; never overwritten.")
    ],
    new_from: Annotated[
        datetime | None, time_option("The new key is in use from then on; ISO 8601, UTC if it says no zone; now.")
    ] = None,
    old_until: Annotated[
        datetime | None,
        time_option("The old key is in use until then; when the new one begins. If it was stolen: before the theft."),
    ] = None,
    algorithm: Annotated[
        Algorithm | None, typer.Option(help="How the new key signs; as the old one. ML-DSA-44 is never left again.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let a new key follow one: makes it, and a record signed by both. The old file stays; remove it when it is done.

    Whoever verifies gives the record to his tools beside his policy. What the old key signs after its time counts for
    nobody who has the record.
    """
    from sealstream.schemas.key_history import sign_rotation
    from sealstream.schemas.note_key import SignerKey
    from sealstream.worker.key_file import read_key, write_key, write_new

    leaving = read_key(old)
    _refuse_second(leaving.verifier, record.parent)
    start = new_from or datetime.now(UTC).replace(microsecond=0)
    coming = SignerKey.generate(leaving.verifier.name, _next_type(leaving, algorithm))
    rotation, data = sign_rotation(
        leaving,
        coming,
        old_not_after_seconds=_seconds(old_until or start),
        new_not_before_seconds=_seconds(start),
    )
    if record.exists():
        raise ConfigError(f"{record} exists, and is not overwritten", hint="name another file; no key was made")
    # If we die between the two files, a key is there that nothing introduces: it counts for nobody, and is removed.
    write_key(file, coming)
    try:
        write_new(record, data)
    except ConfigError as error:
        file.unlink(missing_ok=True)
        raise ConfigError(error.message, hint="no key was made: name another file for the record") from error
    _report(rotation, file, record, as_json=as_json)


def _refuse_second(key: VerifierKey, directory: Path) -> None:
    """Refuse to let a second key follow one: whoever gets both records believes neither."""
    from sealstream.schemas.key_history import parse_rotations

    for path in sorted(directory.glob(f"*{ROTATION_SUFFIX}"))[:_FILES_MAX]:
        if any(rotation.old == key for rotation in parse_rotations(_bytes(path))):
            raise ConfigError(
                f"the key {key.name}+{key.key_id.hex()} was rotated already: {path}",
                hint="rotate the key that follows it; a record that nobody was given yet can be removed",
            )


def _report(rotation: Rotation, file: Path, record: Path, *, as_json: bool) -> None:
    if as_json:
        document = {"old": _document(rotation.old), "new": _document(rotation.new)}
        times = {
            "old_until": _time(rotation.old_not_after_seconds),
            "new_from": _time(rotation.new_not_before_seconds),
        }
        print_json(document | times | {"file": str(file), "record": str(record)})
        return
    print_fields(
        [
            ("old key", f"{rotation.old.key_id.hex()}, in use until {_time(rotation.old_not_after_seconds)}"),
            ("new key", f"{rotation.new.key_id.hex()}, in use from {_time(rotation.new_not_before_seconds)}"),
            ("private key", f"{file}: keep a copy where nobody else comes to"),
            ("record", f"{record}: give it to everybody who verifies"),
        ]
    )
    typer.echo(printable(str(rotation.new)))


def _type(role: Role, algorithm: Algorithm) -> KeyType:
    from sealstream.schemas.note_key import KeyType

    if algorithm is Algorithm.ML_DSA_44:
        return KeyType.COSIGNATURE_ML_DSA_44
    return KeyType.ED25519 if role is Role.LOG else KeyType.COSIGNATURE


def _next_type(key: SignerKey, algorithm: Algorithm | None) -> KeyType:
    from sealstream.schemas.note_key import KeyType

    ml_dsa = KeyType.COSIGNATURE_ML_DSA_44
    if algorithm is Algorithm.ED25519 and key.verifier.type is ml_dsa:
        raise ConfigError("a key of ML-DSA-44 is not followed by one of Ed25519", hint="leave --algorithm away")
    return ml_dsa if algorithm is Algorithm.ML_DSA_44 else key.verifier.type


def _files(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Return the files of keys and those of rotation records that were named, or stand in a named directory."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found.extend(sorted(one for one in path.iterdir() if one.suffix in (KEY_SUFFIX, ROTATION_SUFFIX)))
        else:
            found.append(path)
    if len(found) > _FILES_MAX:
        raise ConfigError(f"{len(found)} files are too many", hint=f"name at most {_FILES_MAX}")
    if not found:
        raise ConfigError(
            f"there is no *{KEY_SUFFIX} and no *{ROTATION_SUFFIX} there",
            hint=f"sealstream keys new NAME --file NAME{KEY_SUFFIX}",
        )
    records = [path for path in found if path.suffix == ROTATION_SUFFIX]
    return [path for path in found if path.suffix != ROTATION_SUFFIX], records


def _history(records: list[Path]) -> KeyHistory:
    from sealstream.schemas.errors import RotationInvalid
    from sealstream.schemas.key_history import KeyHistory, parse_rotations

    rotations: list[Rotation] = []
    for path in records:
        try:
            rotations.extend(parse_rotations(_bytes(path)))
        except RotationInvalid as error:
            raise RotationInvalid(f"{path}: {error.message}", hint=error.hint) from error
    return KeyHistory(rotations)


def _bytes(path: Path) -> bytes:
    from sealstream.schemas.key_history import ROTATIONS_BYTES_MAX

    try:
        with path.open("rb") as file:
            return file.read(ROTATIONS_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _row(path: Path, history: KeyHistory) -> dict[str, object]:
    from sealstream.worker.key_file import read_key

    try:
        key = read_key(path).verifier
    except SealstreamError as error:
        return {"file": str(path), "problem": str(error)}
    (dated,) = (one for one in history.lineage(key) if one.key == key)
    return {
        "file": str(path),
        **_document(key),
        "from": _time(dated.not_before_seconds) if dated.not_before_seconds else None,
        "until": None if dated.not_after_seconds is None else _time(dated.not_after_seconds),
    }


def _document(key: VerifierKey) -> dict[str, object]:
    words = {0x01: "log, Ed25519", 0x04: "witness, Ed25519", 0x06: "log or witness, ML-DSA-44"}
    return {"name": key.name, "type": words[key.type], "id": key.key_id.hex(), "vkey": str(key)}


def _seconds(time: datetime) -> int:
    return int(time.timestamp())


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):  # a record may name any time
        return f"{seconds} s after 1970"
