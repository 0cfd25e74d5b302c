"""The two databases that the notary speaks to, with different rights and in different hands."""

from __future__ import annotations

from typing import Final

from sealstream.worker.postgres import Database

APPLICATION: Final = "sealstream-notary"
STORE: Final = Database(
    "SEALSTREAM_DATABASE",
    absent_hint="run sealstream migrate",
    rights_hint="read the store as a role with sealstream_reader",
)
NOTARY: Final = Database(
    "SEALSTREAM_NOTARY_DATABASE",
    absent_hint="run sealstream migrate-notary",
    rights_hint="grant the login sealstream_notary",
    unique_passes=True,
)
