"""The targets of an attribute job as the library takes them."""

import asyncio
from collections.abc import Mapping

import torch
from torch import Tensor

from contracts.schema.attribute import FilledQuestion
from contracts.schema.targets import EmbeddingTarget, Target, TokenTarget, WordsTarget
from contracts.schema.tokens import TokenCard
from ovam.attention.targets import Rows, Words
from worker.resources import Resources
from worker.tokens import rows_of_token

Learned = Mapping[str, tuple[TokenCard, Tensor]]
"""The cards and the rows of learned tokens, by reference."""


def sought(job: FilledQuestion) -> dict[str, Target]:
    """Return the targets of a job, then its distractors, by their fields."""
    targets = {f"targets.{number}": each.target for number, each in enumerate(job.targets)}
    return targets | {f"distractors.{number}": each for number, each in enumerate(job.distractors)}


async def learned_tokens(job: FilledQuestion, resources: Resources) -> Learned:
    """Read the tokens that a job names. ServiceError: unknown-token, token-file-unreadable."""
    fields = {target.token: f"{field}.token" for field, target in sought(job).items() if isinstance(target, TokenTarget)}
    read = (rows_of_token(resources.registry, resources.store, reference, field=field) for reference, field in fields.items())
    return dict(zip(fields, await asyncio.gather(*read), strict=True))


def library_target(target: Target, learned: Learned, *, field: str) -> Words | Rows:
    """Return what the library looks for. ServiceError (unknown-class) for a class that the token does not know."""
    match target:
        case WordsTarget(prompt=prompt, word=word, occurrence=occurrence):
            return Words(prompt or "", word, occurrence)  # a job has the prompt filled in
        case TokenTarget(token=token, class_name=class_name):
            card, rows = learned[token]
            return Rows(rows, (card.row(class_name, field=f"{field}.class_name"),), card.family)
        case EmbeddingTarget(embedding=embedding, rows=rows):
            return Rows(torch.tensor(embedding), None if rows is None else tuple(rows))
