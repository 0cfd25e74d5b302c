"""``POST /v1/events``: the way of a request from its header to its receipts.

It is an ASGI application of its own and not a function of the framework's, which would take as long again for each
request as all that is done here. What the framework's OpenAPI document says of it is checked against it in the tests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import orjson
from prometheus_client import Counter

from sealstream.producers import Receipt
from sealstream.producers.gateway.authentication import Authentication
from sealstream.producers.gateway.bodies import Bodies, ClientGone, Receive
from sealstream.producers.gateway.buckets import Buckets
from sealstream.producers.gateway.credentials import Credential
from sealstream.producers.gateway.derivation import Derivation
from sealstream.producers.gateway.models import Event, read_model
from sealstream.producers.gateway.problems import Problem, event_invalid, forbidden, too_many
from sealstream.producers.gateway.publisher import Publisher, Taken, problem_of_all
from sealstream.producers.gateway.requests import (
    Publication,
    check_form,
    read_publication,
    single_headers,
)
from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import AuditEvent, new_event_id, new_salt
from sealstream.worker import metrics
from sealstream.worker.logs import logger

PATH: Final = "/v1/events"
_SLICE_EVENTS: Final = 25
"""After so many events of a batch others have their turn: 25 take about a millisecond."""
_JSON: Final = {"content-type": "application/json"}
_SECONDS: Final = metrics.GATEWAY_SECONDS
_REFUSED: Final = metrics.GATEWAY_EVENTS.labels("refused")

Scope: TypeAlias = Mapping[str, Any]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]


class Publishing:
    """Takes events.

    Arguments:
        instance: The instance's name, which stands in each receipt.
        authentication: Knows who asks.
        buckets: Knows how much each may send.
        events_per_second: How many events a second, where a credential has no rate of its own.
        bodies: Reads bodies.
        derivation: Makes what a sender leaves to the gateway.
        publisher: Publishes.
    """

    def __init__(
        self,
        *,
        instance: str,
        authentication: Authentication,
        buckets: Buckets,
        events_per_second: float,
        bodies: Bodies,
        derivation: Derivation,
        publisher: Publisher,
    ) -> None:
        self._instance = instance
        self._authentication = authentication
        self._buckets = buckets
        self._events_per_second = events_per_second
        self._bodies = bodies
        self._derivation = derivation
        self._publisher = publisher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever it is."""
        began = time.perf_counter()
        try:
            status, document = await self._answer(scope, receive)
            headers = _JSON
        except Problem as problem:
            status, document, headers = problem.status, problem.document(), problem.headers()
        except ClientGone:
            metrics.GATEWAY_REQUESTS.labels("gone").inc()
            return
        except Exception:  # noqa: BLE001  # a defect of ours: one request's, and the server goes on
            logger().exception("a request failed")
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            defect = Problem(status, "defect", "the gateway failed: its log says why")
            document, headers = defect.document(), defect.headers()
        await answer(send, status, orjson.dumps(document), headers)
        _requests(int(status)).inc()
        _SECONDS.observe(time.perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[HTTPStatus, Any]:
        headers = single_headers(scope["headers"])
        credential = await self._authentication.credential(headers.get(b"authorization"))
        media_type = check_form(headers)
        self._take(credential, 1)
        body = await self._bodies.read(receive, headers.get(b"content-length"))
        try:
            publication = read_publication(media_type, headers, body)
            if publication.is_batch:
                return await self._batch(credential, publication)
            return await self._single(credential, publication)
        finally:
            self._bodies.release(body)

    async def _single(self, credential: Credential, publication: Publication) -> tuple[HTTPStatus, Any]:
        taken = await self._publisher.taken(self._log(credential, publication, 0))
        return HTTPStatus.ACCEPTED, taken.document(self._instance)

    async def _batch(self, credential: Credential, publication: Publication) -> tuple[HTTPStatus, Any]:
        self._take(credential, len(publication.members) - 1)
        logged: list[Receipt | Problem] = []
        for index in range(len(publication.members)):
            if index % _SLICE_EVENTS == _SLICE_EVENTS - 1:
                await asyncio.sleep(0)
            try:
                logged.append(self._log(credential, publication, index))
            except Problem as problem:
                logged.append(problem)
        outcomes = [await self._outcome(one) for one in logged]
        problems = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
        common = problem_of_all(problems) if len(problems) == len(outcomes) else None
        if common is not None:
            raise common
        results = [_result(outcome, self._instance) for outcome in outcomes]
        return HTTPStatus.MULTI_STATUS if problems else HTTPStatus.ACCEPTED, {"results": results}

    async def _outcome(self, logged: Receipt | Problem) -> Taken | Problem:
        if isinstance(logged, Problem):
            return logged
        try:
            return await self._publisher.taken(logged)
        except Problem as problem:
            return problem

    def _log(self, credential: Credential, publication: Publication, index: int) -> Receipt:
        """Check an event and hand it over.

        Raises:
            Problem: It cannot be taken.
        """
        try:
            event = self._event(credential, publication, index)
        except EventInvalid as error:
            _REFUSED.inc()
            raise event_invalid(error) from None
        return self._publisher.log(event)

    def _event(self, credential: Credential, publication: Publication, index: int) -> AuditEvent:
        member = publication.member(index)
        model = read_model(Event, member)
        if model.tenant is not None and model.tenant != credential.tenant:
            _REFUSED.inc()
            raise forbidden("the credential is of another tenant", field="tenant", hint="leave the tenant out")
        if not credential.allows(model.action):
            _REFUSED.inc()
            raise forbidden("the credential does not reach as far as this action", field="action")
        key = publication.idempotency_key
        if model.id is None and key is None:
            # Nothing tells a retry from a second event.
            return model.event(tenant=credential.tenant, event_id=new_event_id(), salt=new_salt())
        derived, name, tenant = self._derivation, credential.name, credential.tenant
        event_id = model.id or derived.event_id(name, tenant, key or b"", index)
        return model.event(tenant=tenant, event_id=event_id, salt=derived.salt(name, tenant, event_id, member))

    def _take(self, credential: Credential, count: int) -> None:
        """Count events against their credential's rate.

        Raises:
            Problem: They are too many for now.
        """
        rate = credential.events_per_second or self._events_per_second
        seconds = self._buckets.take(credential.name, count, rate)
        if seconds:
            raise too_many(f"the credential may send {rate:g} events a second", seconds)


@cache
def _requests(status: int) -> Counter:
    """Return the count of requests with a status; to look it up costs more than to count."""
    return metrics.GATEWAY_REQUESTS.labels(str(status))


def _result(outcome: Taken | Problem, instance: str) -> dict[str, Any]:
    if isinstance(outcome, Problem):
        return {"status": outcome.status.value, "problem": outcome.document()}
    return {"status": HTTPStatus.ACCEPTED.value, "receipt": outcome.document(instance)}


async def answer(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Send an answer."""
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    fields.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": int(status), "headers": fields})
    await send({"type": "http.response.body", "body": body})
