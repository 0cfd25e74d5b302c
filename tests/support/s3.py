"""An S3 server on the loopback: moto's, which keeps object locks as S3 does."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

import boto3  # type: ignore[import-untyped]  # it has no types of its own
from moto.server import ThreadedMotoServer

REGION: Final = "us-east-1"


@contextmanager
def s3_server() -> Generator[Any]:
    """Run a server, let the environment of this process lead to it, and give a boto3 client of it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    environment = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "not-a-real-secret",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        with patch.dict(os.environ, environment):
            yield boto3.client("s3", endpoint_url=url)
    finally:
        server.stop()
