"""The processor's failpoints: where the crash matrix makes it fail. ``sealstream.worker.failpoints`` says how."""

from __future__ import annotations

from enum import StrEnum


class Point(StrEnum):
    """A place in the life of a worker; one of its own for each state in which a crash leaves something else behind."""

    BEFORE_PRODUCE = "before-produce"
    """A transaction is begun, with nothing in it; the batch is chained in memory."""

    AFTER_PRODUCE = "after-produce"
    """Entries and dead letters are produced, heads are not."""

    AFTER_HEADS = "after-heads"
    """All records are produced; the coordinator does not know the source position."""

    AFTER_SEND_OFFSETS = "after-send-offsets"
    """The transaction is complete, and not committed."""

    DURING_COMMIT = "during-commit"
    """The commit is called and has not come back. Whether the coordinator has decided it is not known here."""

    AFTER_COMMIT = "after-commit"
    """The transaction is committed; nothing in memory says so yet."""

    DURING_ASSIGNMENT = "during-assignment"
    """The group has assigned partitions; nothing of them is restored."""

    DURING_REVOCATION = "during-revocation"
    """The group takes the partitions back; the states are still in memory, and the group waits for this worker."""

    DURING_HEADS_RELOAD = "during-heads-reload"
    """A partition's committed offset is read, its heads are not."""
