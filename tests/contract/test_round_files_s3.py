"""Rounds in an object store: the same files as in a directory."""

from __future__ import annotations

from pathlib import Path

from sealstream.sinks.notary.round_files import RoundFiles
from sealstream.worker.objects import Objects, open_objects
from support.made_rounds import GrowingLogs
from support.s3 import s3_server


def contents(objects: Objects) -> dict[str, bytes]:
    """Return all objects."""
    return {path: objects.get(path) for path in objects.list("")}


def test_an_object_store_has_the_same_files(tmp_path: Path) -> None:
    """Rounds that are written to S3, by one process after the other, come to the files that a directory has."""
    with s3_server() as client:
        client.create_bucket(Bucket="rounds")
        places = [open_objects("s3://rounds/some/log"), open_objects(str(tmp_path))]
        for objects in places:
            logs = GrowingLogs()
            for growth in ({"acme": 250, "beta": 1}, {"acme": 10}, {f"chain-{number}": 3 for number in range(30)}):
                RoundFiles(objects).write(logs.grow(growth))
        in_bucket, in_directory = (contents(objects) for objects in places)
        assert in_bucket == in_directory
        assert len(in_bucket) > 70
