"""The Faust service that owns the log, and hands its batches to the agent: one at a time.

Faust may drop what stands in its channels (in a rebalance, at a stop), so nothing depends on it: the log waits for the
batch that it handed over, and each batch carries the positions that it starts from.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import faust

from sealstream.processors.batch import Batch
from sealstream.processors.cycle import StopRequested
from sealstream.processors.engine import Engine
from sealstream.worker.logs import logger

T = TypeVar("T")

AGENT_SECONDS: Final = 120.0
"""How long the agent may have a batch; its calls to Kafka end long before."""

STOP_SECONDS: Final = 6.0
CLOSE_SECONDS: Final = 1.0
EXIT_SECONDS: Final = 9.0
"""How long after a stop the process ends whatever hangs: a stop must take less than 10 s."""
LISTEN_SECONDS: Final = 0.01


class Log(faust.Service):
    """Runs the engine in a thread of its own and moves batches between it and the agent.

    Arguments:
        engine: The engine; all calls but ``stop`` go through this service's one thread.
        batches: The channel to the agent.
        resume: Lets Faust's streams flow; without Faust's own consumer nobody else does.
        fail: Told when the worker must stop, with the reason.
        exit_code: The exit code of the process as it is now.
        on_batch_done: Told how many seconds the agent had a batch.
        options: Faust's own: ``loop`` and ``beacon``.
    """

    def __init__(
        self,
        engine: Engine,
        batches: faust.ChannelT[Any],
        *,
        resume: Callable[[], None],
        fail: Callable[[BaseException], None],
        exit_code: Callable[[], int],
        on_batch_done: Callable[[float], None],
        **options: Any,
    ) -> None:
        self._engine = engine
        self._batches = batches
        self._resume = resume
        self._fail = fail
        self._exit_code = exit_code
        self._on_batch_done = on_batch_done
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log")
        self._idle = asyncio.Event()
        super().__init__(**options)

    async def process(self, batch: Batch) -> None:
        """Chain a batch and put it into its transaction: the agent's work. Never raises: the pump hears of errors."""
        try:
            await self._in_thread(self._engine.process, batch)
        except Exception as error:  # noqa: BLE001 - Faust would drop it and go on; the pump raises it
            batch.error = error
        finally:
            batch.done.set()

    async def on_start(self) -> None:
        """Let the agent's stream flow."""
        self._resume()

    @faust.Service.task
    async def _pump(self) -> None:
        """Read batches and hand them over, one at a time: meanwhile the next one's records gather."""
        try:
            while not self._batches.subscriber_count:  # what is put before the agent listens would be lost
                await self.sleep(LISTEN_SECONDS)
            while not self.should_stop:
                batch = await self._in_thread(self._engine.step)
                if batch is not None:
                    await self._hand_over(batch)
            await self._in_thread(self._engine.settle)
        except StopRequested as stopped:
            logger().warning("stopped before the transaction ended", reason=stopped.message)
        except Exception as error:  # noqa: BLE001 - every error ends the process, with one line that says why
            self._fail(error)
        finally:
            self._idle.set()

    async def _hand_over(self, batch: Batch) -> None:
        began = time.monotonic()
        await self._batches.put(batch)  # type: ignore[arg-type]  # a channel takes values as well as events
        await asyncio.wait_for(batch.done.wait(), AGENT_SECONDS)
        self._on_batch_done(time.monotonic() - began)
        if batch.error is not None:
            raise batch.error

    async def on_stop(self) -> None:
        """Let the batch at hand end, and leave the group; all within a bounded time."""
        deadline = threading.Timer(EXIT_SECONDS, self._exit_at_once)
        deadline.daemon = True
        deadline.start()
        self._engine.stop()
        try:
            await asyncio.wait_for(self._idle.wait(), STOP_SECONDS)
            await asyncio.wait_for(self._in_thread(self._engine.close), CLOSE_SECONDS)
        except TimeoutError:
            logger().warning("could not leave the group in time; the brokers will notice")
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _exit_at_once(self) -> None:
        """End the process although something hangs. An open transaction is aborted by its coordinator or successor."""
        logger().warning("ended before everything was closed")
        os._exit(self._exit_code())

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)
