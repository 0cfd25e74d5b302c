"""Rows of the attack table: who owns the store's database, or the notary's as well, and can change every row of it.

He knows all formats, recomputes every hash, and switches every guard off; he has no key, and not Kafka. Each time
all of them look: ``sealstream verify`` on the store alone, and held against what was published and witnessed; the
notary, which starts and makes a round; the verifier's witness, if one was made; who asks for a proof of an event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import psycopg
import pytest

from sealstream.schemas.entry import Kind, entry_hash, pack
from support.attacks.attack import Attack, Report, Where
from support.attacks.looking import (
    NOT_CHECKED,
    notary_and_witness,
    notary_ends,
    proof,
    proof_files,
    verify,
    verify_alone,
)
from support.attacks.recorded import BACKED_UP, PUBLISHED, STORED, Copies
from support.attacks.stored_edits import Link, cut, drop, insert, links, overwrite, rewrite, unseen_offsets, write
from support.publish import event_value

_NOT_READ_AGAIN: Final = "the notary reads a row's payload and columns again for nothing but a new round"
_NOT_NEW: Final = "the notary and its witness read what is new by its source offset, and this one's is not new"
_UNCOVERED: Final = "verify has nothing to compare it with until a round covers it, and none is witnessed"
_HEADS_LOST: Final = Report("notary", "RolledBack", "!root")

Do = Callable[[Copies], None]
Look = Callable[[Copies], list[Report]]

FORGED: Final = event_value("acme", "a-3", note="another amount")
_ENTRY: Final = "UPDATE sealstream.entries SET entry = %s{} WHERE tenant = %s AND seq = %s"
_COLUMN: Final = "UPDATE sealstream.entries SET {} WHERE tenant = 'acme' AND seq = 3"
_PAYLOAD: Final = "sealstream.payloads WHERE tenant = 'acme' AND seq = 3"


def _by_verify(kind: str, tenant: str, seq: int | None) -> tuple[Report, ...]:
    """Return a finding that ``verify`` makes with and without a checkpoint."""
    return Report("verify, store alone", kind, tenant, seq), Report("verify", kind, tenant, seq)


def _damaged(tenant: str, seq: int, *, proof: bool = True) -> tuple[Report, ...]:
    """Return that the notary halts, and that nothing is proven, since a row does not hold together."""
    by_notary = Report("notary", "StoreDamaged", tenant, seq)
    return (by_notary, Report("proof", "StoreDamaged", tenant, seq)) if proof else (by_notary,)


def _unread(tenant: str, seq: int) -> tuple[Report, ...]:
    """Return that nothing is proven of a row of which the notary has nothing to read again."""
    return (Report("proof", "StoreDamaged", tenant, seq),)


def _gone(tenant: str, seq: int) -> tuple[Report, ...]:
    """Return that the notary halts, and that nothing is found to be proven."""
    return Report("notary", "StoreDamaged", tenant, seq), Report("proof", "StoreError")


def _forked(seq: int) -> tuple[Report, ...]:
    """Return that acme's chain is another one from an entry on: the notary sees that by the last one it has signed."""
    return Report("verify", "fork", "acme", seq), Report("notary", "StoreDamaged", "acme", PUBLISHED["acme"] - 1)


def _ends_early(tenant: str, seq: int) -> Report:
    """Return that the notary halts, since the store has less of a chain than it has committed to."""
    return Report("notary", "TreeDiffers", tenant, seq)


def _row(
    name: str,
    do: Do,
    *reports: Report,
    event: tuple[str, str] = ("acme", "a-3"),
    further: Look = lambda _copies: [],
    not_shown: str = "",
) -> Attack[Copies]:
    """Return a row in which everybody looks.

    Arguments:
        name: The row's name.
        do: What the attacker does.
        reports: What must be reported.
        event: The event of which a proof is asked for.
        further: Who else looks.
        not_shown: What is not noticed by somebody.
    """

    def perform(copies: Copies) -> list[Report]:
        do(copies)
        found = verify_alone(copies) + verify(copies) + proof(copies, *event) + further(copies)
        return found + notary_and_witness(copies)  # at last: a round changes the copies

    return Attack(name, "database owner", perform, reports, not_shown)


# -- rows, as they are ------------------------------------------------------------------------------------------------


def _edit_entry(copies: Copies) -> None:
    entry = links(copies, "acme")[3].with_payload(FORGED).entry
    copies.tamper(_ENTRY.format(""), pack(entry), "acme", 3)


def _edit_entry_and_hash(copies: Copies) -> None:
    data = pack(links(copies, "acme")[3].with_payload(FORGED).entry)
    copies.tamper(_ENTRY.format(", hash = %s"), data, entry_hash(data), "acme", 3)
    copies.tamper(f"UPDATE sealstream.payloads SET bytes = %s WHERE {_PAYLOAD.partition('WHERE ')[2]}", FORGED)


def _edit_payload(copies: Copies) -> None:
    copies.tamper(f"UPDATE sealstream.payloads SET bytes = %s WHERE {_PAYLOAD.partition('WHERE ')[2]}", FORGED)


def _drop_guards(copies: Copies) -> None:
    """The guards refuse even the owner's UPDATE; he drops them first."""
    statement = f"UPDATE sealstream.payloads SET bytes = 'x' WHERE {_PAYLOAD.partition('WHERE ')[2]}"
    with psycopg.connect(copies.store_url, autocommit=True) as connection:
        with pytest.raises(psycopg.DatabaseError, match="only ever added to"):
            connection.execute(statement.encode())
        triggers = connection.execute(
            "SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) FROM pg_trigger"
            " WHERE NOT tgisinternal AND tgparentid = 0 AND tgrelid::regclass::text LIKE 'sealstream.payloads%'"
        ).fetchall()
        for (drop_one,) in triggers:
            connection.execute(str(drop_one).encode())
        assert connection.execute(statement.encode()).rowcount == 1


def _delete_payload(copies: Copies) -> None:
    copies.tamper(f"DELETE FROM {_PAYLOAD}")


def _second_payload(copies: Copies) -> None:
    copies.tamper(
        "INSERT INTO sealstream.payloads (tenant, seq, received, bytes)"
        f" SELECT tenant, seq, received, %s FROM {_PAYLOAD}",
        FORGED,
    )


def _column(change: str) -> Do:
    return lambda copies: copies.tamper(_COLUMN.format(change))


def _swap(copies: Copies) -> None:
    for table in ("entries", "payloads"):
        for change in ("-1 - seq", "CASE seq WHEN -3 THEN 3 ELSE 2 END"):  # 2 and 3 become -3 and -4 first
            copies.tamper(
                f"UPDATE sealstream.{table} SET seq = {change} WHERE tenant = 'acme' AND seq IN (2, 3, -3, -4)"
            )


def _splice(copies: Copies) -> None:
    link = links(copies, "initech")[2]
    overwrite(copies, "acme", 3, pack(link.entry))
    copies.tamper("UPDATE sealstream.payloads SET bytes = %s WHERE tenant = 'acme' AND seq = 3", link.payload)


def _twice(copies: Copies) -> None:
    insert(copies, links(copies, "acme")[3], seq=STORED["acme"])


# -- chains, written anew: no trace is left within the store ----------------------------------------------------------


def _rechain(copies: Copies) -> None:
    rewrite(copies, "acme", lambda old: [*old[:3], old[3].with_payload(FORGED), *old[4:]])


def _rewrite_all(copies: Copies) -> None:
    rewrite(copies, "acme", lambda old: [one.saying(received=one.entry.received + 1000) for one in old])


def _backdate(copies: Copies) -> None:
    day = 86_400_000_000
    rewrite(copies, "acme", lambda old: [*old[:3], old[3].saying(received=old[3].entry.received - day), *old[4:]])


def _remove(seq: int) -> Do:
    return lambda copies: rewrite(copies, "acme", lambda old: [*old[:seq], *old[seq + 1 :]])


def _hide(copies: Copies) -> None:
    def hidden(link: Link) -> Link:
        return Link(link.saying(kind=Kind.QUARANTINED, reason=5, event_id="").entry, None)

    rewrite(copies, "acme", lambda old: [*old[:3], hidden(old[3]), *old[4:]])


def _reorder(copies: Copies) -> None:
    rewrite(copies, "acme", lambda old: [*old[:7], old[8], old[7], *old[9:]])


def _exchange(copies: Copies) -> None:
    """Two events change places, and so do their offsets and times: it is as if they had been published so."""

    def as_if(link: Link, other: Link) -> Link:
        return link.saying(offset=other.entry.offset, received=other.entry.received)

    rewrite(copies, "acme", lambda old: [*old[:7], as_if(old[8], old[7]), as_if(old[7], old[8]), *old[9:]])


def _rename(copies: Copies) -> None:
    def renamed(link: Link) -> Link:
        event_id = link.entry.event_id
        return link.with_payload(event_value("umbrella", event_id)) if event_id else link

    rewrite(copies, "initech", lambda old: [renamed(one) for one in old], name="umbrella")


def _forge_event(offset: int, genesis: Link, tenant: str) -> Link:
    """Return an event that nobody has published, at a source offset."""
    forged = genesis.saying(kind=Kind.EVENT, event_id="forged", offset=offset)
    return forged.with_payload(event_value(tenant, "forged"))


def _append(copies: Copies, offset: int) -> None:
    rewrite(copies, "acme", lambda old: [*old, _forge_event(offset, old[-1], "acme")])


def _append_unseen(copies: Copies) -> None:
    """Append it at an offset that no reader sees, and that no round has accounted for yet."""
    _append(copies, unseen_offsets(copies, 0)[-1])


def _append_ahead(copies: Copies) -> None:
    """Append it at an offset that Kafka has not come to."""
    _append(copies, links(copies, "initech")[-1].entry.offset + 10)


def _new_chain(copies: Copies) -> None:
    """Begin a chain at an offset that the rounds have accounted for, and that no reader sees."""
    offset = unseen_offsets(copies, 0)[0]
    genesis = links(copies, "acme")[0].saying(offset=offset)
    write(copies, "umbrella", [genesis, _forge_event(offset, genesis, "umbrella")])


def _edit_growth(copies: Copies) -> None:
    rewrite(
        copies,
        "acme",
        lambda old: [*old[:9], old[9].with_payload(event_value("acme", "a-6", note="another amount")), *old[10:]],
    )


# -- what is missing --------------------------------------------------------------------------------------------------


def _cut(chain: str, first: int, last: int = 2**62) -> Do:
    return lambda copies: cut(copies, chain, first, last)


def _drop(chain: str, first: int = 0) -> Do:
    return lambda copies: drop(copies, chain, first)


def _drop_and_set_back(copies: Copies) -> None:
    """Cut the tail off, and let the sink's position say that it was never stored."""
    drop(copies, "acme", 7)
    copies.tamper("UPDATE sealstream.positions SET next_offset = next_offset - 4 WHERE partition = 0")


# -- older states -----------------------------------------------------------------------------------------------------


def _restore_store(copies: Copies) -> None:
    copies.store_backup.restore(copies.store_url)


def _restore_both(copies: Copies) -> None:
    copies.store_backup.restore(copies.store_url)
    copies.notary_backup.restore(copies.notary_url)


def _restore_all(copies: Copies) -> None:
    _restore_both(copies)
    copies.put_storage_back()


def _restore_notary(copies: Copies) -> None:
    copies.notary_backup.restore(copies.notary_url)


def _wipe_notary(copies: Copies) -> None:
    for table in copies.notary_backup.tables:
        if table != "migrations":
            with psycopg.connect(copies.notary_url, autocommit=True) as connection:
                connection.execute(f"TRUNCATE sealstream_notary.{table}".encode())


def _kept_checkpoint(copies: Copies) -> list[Report]:
    """Somebody has kept the last root checkpoint that was public; the first round that is missing is named."""
    found = verify(copies, "--checkpoint", str(copies.stage.storage / "root/checkpoint"))
    left = (copies.storage / "root/checkpoint").read_text().splitlines()[1]
    assert [one.seq for one in found] == [int(left)]
    return [replace(one, seq=None) for one in found]  # how many rounds there are depends on the time


def _rolled_back(where: Where, kind: str) -> tuple[Report, ...]:
    """Return that each chain ends where it did when the store was backed up."""
    return tuple(Report(where, kind, chain, BACKED_UP.get(chain, 0)) for chain in sorted(PUBLISHED))


ROWS: Final = (
    _row(
        "nothing",
        lambda _copies: None,
        further=lambda copies: proof_files(copies, "acme", "a-3", exit_code=0),
        not_shown="nobody has anything to report",
    ),
    _row("edits an entry", _edit_entry, *_by_verify("edited", "acme", 3), *_damaged("acme", 3)),
    _row(
        "edits an entry with its hash and payload",
        _edit_entry_and_hash,
        *_by_verify("edited", "acme", 3),
        Report("notary", "StoreDamaged", "acme", 4),
        Report("proof", "EvidenceDamaged", "acme", 3),
        not_shown="the notary names the entry behind it, whose link does not fit",
    ),
    _row(
        "edits a payload",
        _edit_payload,
        *_by_verify("payload-altered", "acme", 3),
        *_unread("acme", 3),
        further=lambda copies: proof_files(copies, "acme", "a-3", exit_code=1),
    ),
    _row("drops the guards and edits", _drop_guards, *_by_verify("payload-altered", "acme", 3), *_unread("acme", 3)),
    _row("deletes a payload", _delete_payload, *_by_verify("payload-altered", "acme", 3), *_unread("acme", 3)),
    _row(
        "adds a second payload",
        _second_payload,
        *_by_verify("payload-altered", "acme", 3),
        event=("acme", "a-4"),
        not_shown="a proof takes either of the two, and is given if it is the right one",
    ),
    _row("alters a hash", _column("hash = sha256(hash)"), *_by_verify("edited", "acme", 3), *_damaged("acme", 3)),
    _row(
        "alters a source offset",
        _column('"offset" = "offset" + 1000'),
        *_by_verify("edited", "acme", 3),
        *_damaged("acme", 3),
    ),
    _row(
        "alters a time received",
        _column("received = received - 1"),
        *_by_verify("edited", "acme", 3),
        *_unread("acme", 3),
    ),
    _row(
        "alters an event's id",
        _column("event_id = 'a-9'"),
        *_by_verify("edited", "acme", 3),
        Report("proof", "StoreError"),
        not_shown=_NOT_READ_AGAIN,
    ),
    _row(
        "swaps two rows",
        _swap,
        *_by_verify("reordered", "acme", 2),
        *_by_verify("reordered", "acme", 3),
        *_damaged("acme", 2, proof=False),
        Report("proof", "StoreDamaged", "acme", 2),
    ),
    _row(
        "puts another tenant's entry in the place of one",
        _splice,
        *_by_verify("foreign", "acme", 3),
        Report("notary", "StoreDamaged", "acme", 3),
        Report("proof", "StoreError"),
    ),
    _row(
        "writes an entry twice",
        _twice,
        *_by_verify("fork", "acme", STORED["acme"]),
        Report("proof", "StoreDamaged", "acme", STORED["acme"]),
        not_shown="the notary reads what is new by its source offset, and this one's is not new",
    ),
    _row("deletes a row in the middle", _cut("acme", 3, 3), *_by_verify("gap", "acme", 3), *_gone("acme", 3)),
    _row(
        "deletes a genesis",
        _cut("acme", 0, 0),
        *_by_verify("gap", "acme", 0),
        Report("notary", "StoreDamaged", "acme", 0),
    ),
    _row("cuts a tail", _cut("acme", 7), *_by_verify("truncated", "acme", 7), _ends_early("acme", 7)),
    _row(
        "cuts a tail with its head",
        _drop("acme", 7),
        Report("verify", "truncated", "acme", 7),
        _ends_early("acme", 7),
    ),
    _row(
        "cuts a tail with its head and position",
        _drop_and_set_back,
        Report("verify", "truncated", "acme", 7),
        _ends_early("acme", 7),
    ),
    _row(
        "deletes a tenant",
        _drop("initech"),
        Report("verify", "truncated", "initech", 0),
        _ends_early("initech", 0),
        Report("proof", "StoreError"),
        event=("initech", "i-1"),
    ),
    _row(
        "renames a tenant",
        _rename,
        Report("verify", "truncated", "initech", 0),
        Report("verify", "foreign", "umbrella", 0),
        _ends_early("initech", 0),
        Report("proof", "StoreError"),
        event=("initech", "i-1"),
    ),
    _row(
        "edits and chains anew",
        _rechain,
        *_forked(3),
        Report("proof", "EvidenceDamaged", "acme", 3),
        further=notary_ends,
    ),
    _row(
        "writes a chain anew from its genesis", _rewrite_all, *_forked(0), Report("proof", "EvidenceDamaged", "acme", 3)
    ),
    _row("backdates an event and chains anew", _backdate, *_forked(3), Report("proof", "EvidenceDamaged", "acme", 3)),
    _row("removes an event and chains anew", _remove(3), *_forked(3), Report("proof", "StoreError")),
    _row("removes a repeat and chains anew", _remove(4), *_forked(4)),
    _row("removes a quarantined record and chains anew", _remove(6), *_forked(6)),
    _row("calls an event quarantined and chains anew", _hide, *_forked(3), Report("proof", "StoreError")),
    _row(
        "reorders events and chains anew",
        _reorder,
        *_by_verify("reordered", "acme", 8),
        *_damaged("acme", 8, proof=False),
    ),
    _row("exchanges events and chains anew", _exchange, *_forked(7)),
    _row(
        "begins a chain at an offset of nobody's",
        _new_chain,
        Report("verify", "foreign", "umbrella", 0),
        not_shown=_NOT_NEW,
    ),
    _row(
        "appends a forged event at an offset of nobody's",
        _append_unseen,
        Report("witness", "edited", "!partition-0"),
        not_shown=_UNCOVERED,
    ),
    _row(
        "appends a forged event ahead of Kafka",
        _append_ahead,
        Report("witness", "edited", "!partition-0"),
        not_shown=_UNCOVERED,
    ),
    _row(
        "edits before a round covers it, and chains anew",
        _edit_growth,
        Report("witness", "edited", "acme", 9),
        not_shown=_UNCOVERED,
    ),
    _row(
        "removes before a round covers it, and chains anew",
        _remove(9),
        Report("witness", "gap", "acme", 9),
        not_shown=_UNCOVERED,
    ),
    _row(
        "cuts a tail before a round covers it",
        _drop("acme", 9),
        Report("witness", "gap", "acme", 9),
        not_shown=_UNCOVERED,
    ),
    _row(
        "cuts the last record of a partition before a round covers it",
        _drop("globex", 5),
        not_shown="nobody can tell it from a store that lags, until the partition's next record is stored",
    ),
    _row(
        "restores an older store",
        _restore_store,
        *_rolled_back("verify", "rollback"),
        *_rolled_back("notary", "TreeDiffers"),
    ),
    _row(
        "restores store and notary",
        _restore_both,
        Report("verify", NOT_CHECKED),
        _HEADS_LOST,
        not_shown="without the map of the last round nothing can be compared; the code is 2, not 0",
    ),
    _row(
        "restores store, notary and storage",
        _restore_all,
        Report("verify", "rollback", "!root"),
        _HEADS_LOST,
        further=_kept_checkpoint,
        not_shown="verify reports it to whoever kept a checkpoint, and to nobody else",
    ),
    _row("restores the notary's database", _restore_notary, Report("verify", NOT_CHECKED), _HEADS_LOST),
    _row(
        "wipes the notary's database",
        _wipe_notary,
        Report("verify", NOT_CHECKED),
        _HEADS_LOST,
        Report("proof", "NotYetProvable"),
    ),
)
