"""Anchors of root checkpoints: a timestamp authority made of OpenSSL, and a bucket with object lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sealstream.schemas.errors import (
    ConfigError,
    SealstreamError,
    StoreError,
    TimestampInvalid,
    TimestampUntrusted,
    Unreachable,
)
from sealstream.schemas.log_layout import root_checkpoint_path
from sealstream.schemas.timestamp import verify_timestamp
from sealstream.sinks.notary.anchors.anchor import Anchor, Anchored, Checkpointed
from sealstream.sinks.notary.anchors.locking import LockAnchor
from sealstream.sinks.notary.anchors.schedule import AnchorSchedule
from sealstream.sinks.notary.anchors.timestamps import TimestampAnchor
from sealstream.worker import metrics
from sealstream.worker.objects import Objects, open_objects
from support.notes import cosigned
from support.s3 import s3_server
from support.timestamping import (
    Authority,
    TimestampServer,
    expired_authority,
    make_authority,
    timestamp_server,
)
from support.workers import wait_for

PUBLISHED = Checkpointed(41, cosigned({1: 1_700_000_000, 2: 1_700_000_000}))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that is trusted."""
    return make_authority(tmp_path_factory.mktemp("tsa") / "one")


@pytest.fixture
def server(authority: Authority) -> Generator[TimestampServer]:
    """Its web server."""
    with timestamp_server(authority) as running:
        yield running


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    """A directory to publish in."""
    directory = tmp_path / "log"
    directory.mkdir()
    return open_objects(str(directory))


@pytest.fixture(scope="module")
def s3() -> Generator[Any]:
    """An S3 server with a bucket that locks, and one that does not."""
    with s3_server() as client:
        client.create_bucket(Bucket="locking", ObjectLockEnabledForBucket=True)
        client.create_bucket(Bucket="plain")
        yield client


class TestTimestamps:
    """RFC 3161."""

    def test_kept_beside_the_checkpoint(self, objects: Objects, authority: Authority, server: TimestampServer) -> None:
        """A timestamp over the checkpoint's bytes is published beside it, as the authority gave it."""
        roots = authority.roots_pem.decode()
        anchored = TimestampAnchor(server.url, roots, objects).anchor(PUBLISHED)
        stored = objects.get("root/timestamps/042")
        assert (anchored.round, anchored.token) == (41, stored)
        said = verify_timestamp(stored, PUBLISHED.note, roots)
        assert (said.authority, said.time_seconds) == (authority.name, anchored.at.timestamp())

    @pytest.mark.parametrize("lie", ["old", "other", "nothing", "huge", "refused"])
    def test_what_is_no_timestamp_is_not_kept(
        self, lie: str, objects: Objects, authority: Authority, server: TimestampServer
    ) -> None:
        """Answers to other questions, over other bytes, or that are none are errors, and nothing is kept of them."""
        old = authority.stamp(PUBLISHED.note)
        replies: dict[str, Callable[[bytes], bytes]] = {
            "old": lambda _query: old,
            "other": lambda _query: authority.stamp(b"other"),
            "nothing": lambda _query: b"",
            "huge": lambda _query: bytes(1_000_000),
            "refused": lambda _query: bytes.fromhex("30053003020102"),
        }
        server.reply = replies[lie]
        with pytest.raises((TimestampInvalid, StoreError)):
            TimestampAnchor(server.url, authority.roots_pem.decode(), objects).anchor(PUBLISHED)
        assert objects.list("") == []

    def test_authorities_that_do_not_count(
        self, objects: Objects, authority: Authority, server: TimestampServer, tmp_path: Path
    ) -> None:
        """An authority that is none of ours, or whose certificate has ended, is not taken."""
        expired = expired_authority(tmp_path / "expired")
        other = make_authority(tmp_path / "other", "Other TSA")
        for replying, roots in ((other, authority.roots_pem), (expired, expired.roots_pem)):
            server.reply = replying.reply
            with pytest.raises(TimestampUntrusted):
                TimestampAnchor(server.url, roots.decode(), objects).anchor(PUBLISHED)
        assert objects.list("") == []

    def test_clocks_that_differ(self, objects: Objects, authority: Authority, server: TimestampServer) -> None:
        """Where the authority's time is far from ours, somebody has to find out whose clock is wrong."""
        anchor = TimestampAnchor(server.url, authority.roots_pem.decode(), objects, clock=lambda: time.time() + 3_600)
        with pytest.raises(TimestampUntrusted, match="clocks"):
            anchor.anchor(PUBLISHED)

    def test_an_authority_that_is_away(self, objects: Objects, authority: Authority, server: TimestampServer) -> None:
        """No server, and one that fails, are errors to be tried again."""
        server.status = 500
        roots = authority.roots_pem.decode()
        with pytest.raises(StoreError, match="500"):
            TimestampAnchor(server.url, roots, objects).anchor(PUBLISHED)
        with pytest.raises(Unreachable):
            TimestampAnchor("http://127.0.0.1:9/", roots, objects).anchor(PUBLISHED)

    def test_urls_with_secrets(self, objects: Objects) -> None:
        """A URL with a password is refused, and not shown."""
        with pytest.raises(ConfigError) as caught:
            TimestampAnchor("https://me:hunter2@tsa.example/", "", objects)
        assert "hunter2" not in str(caught.value)


class TestLocking:
    """A bucket with object lock."""

    def test_locked(self, s3: Any) -> None:
        """The checkpoint lies in the bucket and cannot be deleted, and putting it again is harmless."""
        anchor = LockAnchor("s3://locking/some/prefix/", days=30)
        for _ in range(2):
            assert anchor.anchor(PUBLISHED).round == 41
        key = f"some/prefix/{root_checkpoint_path(42)}"
        found = s3.get_object(Bucket="locking", Key=key)
        assert found["Body"].read() == PUBLISHED.note
        assert found["ObjectLockMode"] == "COMPLIANCE"
        left = found["ObjectLockRetainUntilDate"] - datetime.now(UTC)
        assert timedelta(days=29) < left < timedelta(days=31)
        with pytest.raises(Exception, match="AccessDenied"):
            s3.delete_object(Bucket="locking", Key=key, VersionId=found["VersionId"], BypassGovernanceRetention=True)

    @pytest.mark.parametrize("bucket", ["plain", "missing"])
    def test_buckets_without_locks(self, bucket: str, s3: Any) -> None:
        """A bucket that does not lock, or does not exist, is an error: nothing counts as locked."""
        del s3
        with pytest.raises(StoreError, match=bucket):
            LockAnchor(f"s3://{bucket}", days=30).anchor(PUBLISHED)

    @pytest.mark.parametrize("lie", ["unlocked", "shorter", "governance", "other bytes", "no version"])
    def test_servers_that_pass_over_the_lock(self, lie: str, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that takes a checkpoint and does not lock it as asked is not believed."""
        del s3
        until = "2020-01-01T00:00:00Z" if lie == "shorter" else "2099-01-01T00:00:00Z"
        locked = {
            "x-amz-object-lock-mode": "GOVERNANCE" if lie == "governance" else "COMPLIANCE",
            "x-amz-object-lock-retain-until-date": until,
        }

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(b"", {"ETag": '"x"'} | ({} if lie == "no version" else {"x-amz-version-id": "1"}))

            def do_GET(self) -> None:
                body = b"other" if lie == "other bytes" else PUBLISHED.note
                self.answer(body, {} if lie == "unlocked" else locked)

            def answer(self, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(200)
                for name, value in (headers | {"Content-Length": str(len(body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            try:
                with pytest.raises(StoreError, match="s3://locking"):
                    LockAnchor("s3://locking", days=30).anchor(PUBLISHED)
            finally:
                server.shutdown()

    def test_a_server_that_is_away(self, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that does not answer is tried again later; no secret is in the message."""
        del s3
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(Unreachable) as caught:
            LockAnchor("s3://locking", days=30).anchor(PUBLISHED)
        assert "not-a-real-secret" not in str(caught.value)

    @pytest.mark.parametrize("url", ["", "gs://bucket", "s3://", "s3://key:hunter2@bucket/", "s3://bucket?x=hunter2"])
    def test_no_buckets(self, url: str) -> None:
        """What is no bucket of S3 is refused, and what may be a secret in it is not shown."""
        with pytest.raises(ConfigError) as caught:
            LockAnchor(url, days=30)
        assert "hunter2" not in str(caught.value)


class Scripted:
    """An anchor that does as it is told."""

    name = "scripted"

    def __init__(self) -> None:
        self.outcomes: list[Exception | None] = []
        self.asked: list[int] = []

    def anchor(self, published: Checkpointed) -> Anchored:
        """Fail or not, as the test says."""
        self.asked.append(published.round)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome
        return Anchored(published.round, datetime.fromtimestamp(1_700_000_000, UTC))


def failures() -> float:
    """Return how many failures were counted."""
    return metrics.REGISTRY.get_sample_value("sealstream_notary_anchor_failures_total", {"anchor": "scripted"}) or 0.0


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class TestSchedule:
    """What is anchored when."""

    def look(self, schedule: AnchorSchedule, anchor: Scripted, times: int, round_number: int) -> list[int]:
        """Look until the anchor was asked so often, and what that came to is known; return the rounds anchored."""
        found: list[int] = []

        def looked() -> bool:
            found.extend(one.round for _, one in schedule.look(Checkpointed(round_number, b"note")))
            return len(anchor.asked) >= times and not schedule.is_busy

        wait_for(looked, timeout_seconds=60, what="the anchor")
        return found

    def test_every_so_often(self) -> None:
        """An anchor is asked at once, and again when its time has come; with no checkpoint there is nothing to do."""
        anchor, clock = Scripted(), Clock()
        schedule = AnchorSchedule([anchor], {}, interval_seconds=3_600, clock=clock)
        assert (schedule.look(None), anchor.asked) == ([], [])
        assert self.look(schedule, anchor, 1, 7) == [7]
        clock.now += 3_599
        assert (self.look(schedule, anchor, 1, 8), anchor.asked) == ([], [7])
        clock.now += 2
        assert self.look(schedule, anchor, 2, 9) == [9]

    def test_a_restart_keeps_the_time(self) -> None:
        """What was anchored before the start counts."""
        anchor, clock = Scripted(), Clock()
        last = datetime.fromtimestamp(clock.now - 3_000, UTC)
        schedule = AnchorSchedule([anchor], {"scripted": last}, interval_seconds=3_600, clock=clock)
        assert (self.look(schedule, anchor, 0, 8), anchor.asked) == ([], [])
        clock.now += 601
        assert self.look(schedule, anchor, 1, 9) == [9]

    @pytest.mark.parametrize("error", [Unreachable("away"), TimestampInvalid("odd"), ZeroDivisionError()])
    def test_failures_are_alarms_and_tried_again(self, error: SealstreamError) -> None:
        """A failure is counted, and tried again before long, with ever longer pauses; then it goes on as ever."""
        anchor, clock = Scripted(), Clock()
        anchor.outcomes = [error, error, None]
        before = failures()
        schedule = AnchorSchedule([anchor], {}, interval_seconds=3_600, clock=clock)
        assert self.look(schedule, anchor, 1, 1) == []
        clock.now += 2
        assert self.look(schedule, anchor, 2, 2) == []
        clock.now += 2
        assert (self.look(schedule, anchor, 2, 3), anchor.asked) == ([], [1, 2])
        clock.now += 2
        assert self.look(schedule, anchor, 3, 4) == [4]
        assert failures() == before + 2

    def test_anchors_by_type(self, objects: Objects, s3: Any, authority: Authority, server: TimestampServer) -> None:
        """Several anchors go side by side, and what each has come to is told by its name."""
        del s3
        anchors: list[Anchor] = [
            TimestampAnchor(server.url, authority.roots_pem.decode(), objects),
            LockAnchor("s3://locking/both", days=1),
        ]
        schedule = AnchorSchedule(anchors, {}, interval_seconds=3_600)
        found: dict[str, Anchored] = {}

        def both() -> bool:
            found.update(schedule.look(PUBLISHED))
            return len(found) == 2

        wait_for(both, timeout_seconds=60, what="both anchors")
        assert {name: bool(one.token) for name, one in found.items()} == {"timestamp": True, "lock": False}
