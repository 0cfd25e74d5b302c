"""A Faust sensor that feeds the catalogue of metrics with what Faust itself does in this worker.

Most of what Faust's sensors are told of (messages, tables, commits, sends, rebalances) is not done by Faust here, and
is measured where it is done. Left are its event loop, its agent and its web.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import faust
from faust import web
from faust.types import AppT

from sealstream.worker import metrics

PAUSE_SECONDS: Final = 0.5
_NO_ANSWER: Final = "none"


class CatalogueSensor(faust.Sensor):
    """Observes event loop, agent and web requests."""

    def on_batch_done(self, seconds: float) -> None:
        """Note that the agent is done with a batch, so many seconds after it was put on its channel."""
        metrics.PROCESSOR_AGENT_SECONDS.observe(seconds)

    def on_web_request_end(
        self,
        app: AppT,
        request: web.Request,
        response: web.Response | None,
        state: dict[str, Any],
        *,
        view: web.View | None = None,
    ) -> None:
        """Count an answer of the web port by its status."""
        del app, request, state, view
        metrics.PROCESSOR_WEB_REQUESTS.labels(_NO_ANSWER if response is None else str(response.status)).inc()

    @faust.Service.task
    async def _measure_loop(self) -> None:
        """Measure how late the event loop comes back from a pause: what else it had to do."""
        loop = asyncio.get_running_loop()
        while not self.should_stop:
            due = loop.time() + PAUSE_SECONDS
            await self.sleep(PAUSE_SECONDS)
            metrics.PROCESSOR_LOOP_DELAY_SECONDS.observe(max(loop.time() - due, 0.0))
