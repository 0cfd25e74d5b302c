"""A whole instance with its evidence: pipeline, store, notary, and the verifier's witness, each a process of its own.

What an attacker may do is done to its servers and files; who must notice are its workers and the command line.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from sealstream.deploy.stack.ports import free_port
from sealstream.schemas.keys import pack_key
from sealstream.schemas.note_key import KeyType, SignerKey
from sealstream.sinks.notary.migrate import migrate as migrate_notary
from sealstream.sinks.store.migrate import migrate
from sealstream.worker.settings import PREFIX
from support.publish import RawRecord, event_value, publish_raw
from support.workers import Pipeline, Worker, wait_for

ROUND_SECONDS: Final = 1.0
WITNESSED_SECONDS: Final = 90.0
COMMAND_SECONDS: Final = 120.0
ROLES: Final = ("processor", "sink", "verifier", "witness", "notary")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command of the command line came to.

    Arguments:
        exit_code: Its exit code.
        output: What it printed.
        errors: What it printed to standard error.
    """

    exit_code: int
    output: str
    errors: str

    def json(self) -> Any:
        """Return what it printed, parsed."""
        return json.loads(self.output)


class Stage:
    """One instance.

    Arguments:
        pipeline: Its topics and settings, on a Kafka that runs.
        notary_url: A database of the notary's own, empty.
        directory: Where its keys and files go.
    """

    def __init__(self, pipeline: Pipeline, notary_url: str, directory: Path) -> None:
        self.pipeline = pipeline
        self.notary_url = notary_url
        self.directory = directory
        self.storage = directory / "published"
        self.storage.mkdir(parents=True, exist_ok=True)
        instance = pipeline.genesis.instance
        self.log_key = SignerKey.generate(instance, KeyType.ED25519)
        self.witness_key = SignerKey.generate(f"{instance}/verifier", KeyType.COSIGNATURE)
        self.witness_port = free_port()
        self.witness_path = directory / "witness.sqlite"
        self.policy_path = directory / "policy"
        self.policy_path.write_text(self.policy(), encoding="utf-8")
        self.map_secret = secrets.token_bytes(32)
        migrate(pipeline.database_url, partitions=pipeline.genesis.partitions)
        migrate_notary(notary_url)
        pipeline.environment |= {
            f"{PREFIX}{name.upper()}": value
            for name, value in {
                "log_storage": str(self.storage),
                "notary_database": notary_url,
                "log_key_file": str(self._own("log.key", pack_key(self.log_key))),
                "map_secret_file": str(self._own("map.secret", self.map_secret.hex().encode())),
                "policy_file": str(self.policy_path),
                "round_seconds": str(ROUND_SECONDS),
                "witness_key_file": str(self._own("witness.key", pack_key(self.witness_key))),
                "witness_path": str(self.witness_path),
                "witness_port": str(self.witness_port),
            }.items()
        }

    def policy(self) -> str:
        """Return the policy by which its root checkpoints are believed: its log, cosigned by the verifier's witness."""
        return (
            f"log {self.log_key.verifier}\n"
            f"witness verifier {self.witness_key.verifier} http://127.0.0.1:{self.witness_port}\n"
            "quorum verifier\n"
        )

    def start(self, *roles: str, **settings: object) -> dict[str, Worker]:
        """Start workers, all that there are if none is named.

        Arguments:
            roles: Their roles.
            settings: More settings by their names in lower case.
        """
        workers: dict[str, Worker] = {}
        for role in roles or ROLES:
            if role == "witness":
                said = () if self.witness_path.exists() else ("--trust-first-use",)  # by its operator, once
                workers[role] = self.start_witness(*said, **settings)
            else:
                command = (sys.executable, "-m", "sealstream.deploy", role)
                workers[role] = self.pipeline.start(role, command=command, **settings)
        return workers

    def start_witness(self, *options: str, **settings: object) -> Worker:
        """Start the verifier's witness with options."""
        command = (sys.executable, "-m", "sealstream.deploy", "witness", "--recompute", *options)
        return self.pipeline.start("witness", command=command, **settings)

    def publish(self, tenant: str, *event_ids: str, note: str = "") -> None:
        """Publish events of a tenant, and wait until Kafka has them."""
        records = [RawRecord(tenant.encode(), event_value(tenant, one, note=note)) for one in event_ids]
        partitions = self.pipeline.genesis.partitions
        publish_raw(self.pipeline.bootstrap, self.pipeline.topics.events, records, partitions=partitions)

    def chain_size(self, tenant: str) -> int:
        """Return how many entries of a chain the last witnessed round covers; 0 if it has none of it."""
        with psycopg.connect(self.notary_url, autocommit=True) as connection:
            row = connection.execute(
                "SELECT size FROM sealstream_notary.chains WHERE chain = %s AND grown_in <= ("
                "SELECT max(round) FROM sealstream_notary.rounds WHERE witnessed_at IS NOT NULL)",
                (tenant,),
            ).fetchone()
        return 0 if row is None else int(row[0])

    def wait_witnessed(self, **sizes: int) -> None:
        """Wait until a witnessed round covers so many entries of each chain, its genesis included."""
        for tenant, size in sizes.items():
            wait_for(
                lambda tenant=tenant, size=size: self.chain_size(tenant) >= size,  # type: ignore[misc]
                timeout_seconds=WITNESSED_SECONDS,
                what=f"a witnessed round with {size} entries of {tenant}",
            )

    def run(self, *arguments: str, **settings: object) -> Answer:
        """Run a command of the command line with this instance's settings, and return what it came to."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        more = {f"{PREFIX}{name.upper()}": str(value) for name, value in settings.items()}
        done = subprocess.run(
            [sys.executable, "-m", "sealstream.deploy", *arguments],
            env=clean | self.pipeline.environment | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Answer(done.returncode, done.stdout, done.stderr)

    def _own(self, name: str, data: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(data)
        path.chmod(0o600)
        return path
