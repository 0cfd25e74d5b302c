"""Asking where partitions end, while the worker is told to stop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any
from unittest.mock import Mock

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from sealstream.kafka.client import KafkaConnection
from sealstream.processors import ends as asked
from sealstream.processors.ends import Ends


async def test_an_answer_that_comes_after_the_stop_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that fails when nobody waits for it any more leaves no error in the log of an orderly end."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context))
    answers: list[Future[Any]] = [Future()]

    def list_offsets(places: Iterable[TopicPartition], **_options: object) -> dict[TopicPartition, Future[Any]]:
        return dict.fromkeys(places, answers[0])

    monkeypatch.setattr(asked, "AdminClient", Mock(return_value=Mock(list_offsets=list_offsets)))
    ends = Ends(KafkaConnection("127.0.0.1:1"), "test", Mock(topic="t", partitions={0: Mock()}))
    asking = asyncio.create_task(ends.ask())
    await asyncio.sleep(0)  # it asks

    asking.cancel()
    await asyncio.wait([asking])
    answers[0].set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
    for _ in range(3):
        await asyncio.sleep(0)  # the loop hears of it
    del asking
    answers.clear()
    gc.collect()  # asyncio complains of an error that nobody has looked at when it is thrown away

    assert said == []


async def test_an_answer_may_take_longer_than_the_pause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While a broker is away each question takes its whole limit: the next one comes behind it, and nothing warns."""
    monkeypatch.setattr(asked, "ASK_SECONDS", 0.01)
    times = asyncio.Semaphore(0)
    ends = Ends(KafkaConnection("127.0.0.1:1"), "test", Mock(topic="t", partitions={}))

    async def ask() -> None:
        await asyncio.sleep(0.05)  # as a broker that is away
        times.release()

    monkeypatch.setattr(ends, "ask", ask)
    async with ends:
        for _ in range(3):
            await asyncio.wait_for(times.acquire(), timeout=30)

    assert "overlapping" not in caplog.text
