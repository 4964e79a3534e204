"""Rank the words that a place of an image attends to."""

from contracts.probing import ProbeRequest, ProbeResult
from worker.attempts import Attempt
from worker.resources import Resources


async def probe(attempt: Attempt, request: ProbeRequest, resources: Resources) -> ProbeResult:
    """Rank the words that a place of an image attends to."""
    raise NotImplementedError(attempt, request, resources)
