"""Requests that follow from the API's description, valid or not, alone or one after the other (schemathesis)."""

from collections.abc import Callable
from contextlib import suppress
from itertools import count as count_from
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, reject, seed, settings
from hypothesis.errors import FlakyStrategyDefinition, Unsatisfiable
from hypothesis.strategies import DrawFn, SearchStrategy, composite
from schemathesis.core.errors import InvalidSchema
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    missing_required_header,
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
)

from proofs.fuzz.asked import Asked, Tenant

# What a model allows cannot be said in a schema, and what a schema forbids may be an unknown path.
LEFT_OUT: list[Any] = [negative_data_rejection, positive_data_acceptance, missing_required_header, unsupported_method]
OWN, FOREIGN, NOBODY = 0.4, 0.2, 0.03
"""Shares of requests about the tenant's own things, about the other tenant's, and without a key."""
STEPS = 12  # of a sequence
PATIENCE = 60  # seconds


class Sender:
    """Sends generated requests as one tenant, and looks at the answers."""

    def __init__(self, asked: Asked, mine: Tenant, other: Tenant, source: str) -> None:
        self.asked, self.mine, self.other, self.source = asked, mine, other, source

    def send(self, case: Any) -> None:  # noqa: ANN401  # of the state machine, or not
        """Send a request about things that are there, or are another's, as often as not."""
        random, foreign = self.asked.random, False
        drawn = random.random()
        if drawn < OWN and case.method not in ("DELETE", "PATCH"):  # what is there is needed again
            self.put(case, self.mine)
        elif drawn < OWN + FOREIGN:
            foreign = self.put(case, self.other)
        self.finish(case, {} if random.random() < NOBODY else self.mine.headers, foreign=foreign)

    def put(self, case: Any, tenant: Tenant) -> bool:  # noqa: ANN401
        """Put a tenant's job or token into the path of a request, or its job into the body; whether there is a place."""
        random, path = self.asked.random, case.path_parameters or {}
        if "job_id" in path:
            path["job_id"] = random.choice(tenant.jobs)
        elif "reference" in path:
            path["reference"] = random.choice(tenant.tokens)
        elif isinstance(case.body, dict) and "job_id" in case.body:
            case.body["job_id"] = random.choice(tenant.jobs)
        else:
            return False
        return True

    def finish(self, case: Any, headers: dict[str, str], *, foreign: bool = False) -> Any:  # noqa: ANN401
        """Send a request as it is; the answer."""
        label = f"{case.method} {case.formatted_path} {case.body!r}"
        try:
            answer = case.call(headers=headers, timeout=PATIENCE)
        except requests.RequestException as error:
            self.asked.silent(self.source, label, error)
            return None
        self.asked.answered(self.source, label, answer.status_code, answer.content)
        if foreign and answer.status_code < 400:
            self.asked.touched(self.source, label, answer.status_code, answer.content)
        try:
            case.validate_response(answer, excluded_checks=LEFT_OUT, headers=headers)
        except (Failure, FailureGroup) as failure:
            reasons = failure.exceptions if isinstance(failure, FailureGroup) else [failure]
            self.asked.wrong(self.source, label, "; ".join(str(reason) for reason in reasons))
        return answer


def operations(schema: Any) -> list[Any]:  # noqa: ANN401
    """Every operation."""
    return [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]


def limits(examples: int, **more: Any) -> settings:  # noqa: ANN401
    """Hypothesis only draws: nothing is raised, so there is nothing to shrink."""
    return settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
        **more,
    )


def one_by_one(schema: Any, sender: Sender, count: int, number: int) -> None:  # noqa: ANN401
    """Send about `count` requests, as many to each operation, valid and invalid ones."""
    every = [(operation, mode) for operation in operations(schema) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]
    for operation, mode in every:
        with suppress(Unsatisfiable):  # an operation without parameters has no invalid requests
            run_through(generated(operation.as_strategy(generation_mode=mode)), sender.send, max(1, count // len(every)), number)


@composite
def generated(draw: DrawFn, cases: SearchStrategy[Any]) -> Any:  # noqa: ANN401
    """A request, or another one where schemathesis refuses a schema that it has made itself, of an invalid request."""
    try:
        return draw(cases)
    except InvalidSchema:
        return reject()


def run_through(strategy: Any, send: Callable[[Any], None], examples: int, number: int) -> None:  # noqa: ANN401
    """Draw so many requests and send them."""

    @limits(examples)
    @seed(number)
    @given(strategy)
    def draw(case: Any) -> None:  # noqa: ANN401
        send(case)

    draw()


def in_sequences(schema: Any, sender: Sender, count: int, number: int) -> None:  # noqa: ANN401
    """Send about `count` requests in sequences that follow the links of the description."""

    class Sequences(schema.as_state_machine()):  # type: ignore[misc]
        """As schemathesis makes them, with a key, and with answers that are looked at here."""

        def call(self, case: Any, **_: Any) -> Any:  # noqa: ANN401
            return case.call(headers=sender.mine.headers, timeout=PATIENCE)

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:  # noqa: ANN401
            label = f"{case.method} {case.formatted_path} {case.body!r}"
            sender.asked.answered(sender.source, label, response.status_code, response.content)
            try:
                case.validate_response(response, excluded_checks=LEFT_OUT, headers=sender.mine.headers)
            except (Failure, FailureGroup) as failure:
                reasons = failure.exceptions if isinstance(failure, FailureGroup) else [failure]
                sender.asked.wrong(sender.source, label, "; ".join(str(reason) for reason in reasons))

    sent = sender.asked.requests
    seeds, sent = count_from(number), sender.asked.requests
    while (left := count - sent[sender.source]) > 0:
        before = sent[sender.source]
        seed(next(seeds))(Sequences)
        with suppress(FlakyStrategyDefinition):  # hypothesis gives up where the same requests have other answers, as ours may
            Sequences.run(settings=limits(max(1, left // STEPS), stateful_step_count=STEPS))
        if sent[sender.source] == before:
            break


def description(url: str) -> Any:  # noqa: ANN401
    """The API's description, as the gateway gives it."""
    return schemathesis.openapi.from_url(f"{url}/openapi.json")
