"""What a handler hands back."""

from dataclasses import dataclass

from contracts.schema.jobs import AnyResult
from worker.tokens import UnregisteredToken


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of an attempt: its artifacts are in the store already, its tokens are not."""

    result: AnyResult
    tokens: tuple[UnregisteredToken, ...] = ()
    """Stored and entered in the registry when the job ends; their references then go into the result."""
    canceled: bool = False
    """Whether the client stopped the job. Its result is what it had until then."""
