"""What an attribute request asks of the library: every target with its method."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

import ovam
from contracts.attribution import AttributeRequest, MethodCard, Settings, Target
from contracts.models import ModelCard
from contracts.targets import check_embedding, counting, effective, selected
from contracts.tokens import TokenCard
from worker import tokens
from worker.choices import blocks_of, named
from worker.models import Model
from worker.resources import Resources

KINDS = {"words": "words", "tokens": "optimized"}  # of targets, and what the library calls them
Learned = Mapping[str, tuple[TokenCard, Tensor]]
"""Tokens by how they were asked for: their cards, and their rows."""


@dataclass(frozen=True, eq=False)
class Question:
    """A target, and by which method it is looked for."""

    target: Target
    sought: ovam.Words | ovam.Rows
    name: str
    """Of the published method whose settings were taken."""
    method: ovam.Method
    settings: dict[str, Any]
    """All settings that count, as a request can say them again."""


@cache
def method_cards() -> dict[str, MethodCard]:
    """The published methods, by name."""
    return {
        name: MethodCard(
            name=name,
            source=source,
            **{kind: settings_of(ovam.method(f"{name}-{variant}")) for kind, variant in KINDS.items()},
        )
        for name, source in ovam.SOURCES.items()
    }


def settings_of(method: ovam.Method) -> dict[str, Any]:
    """All settings of a method, also those that have no effect beside the others."""
    written = method.settings()
    return {field: written[field] for field in Settings.model_fields}


async def learned_tokens(request: AttributeRequest, card: ModelCard, resources: Resources) -> Learned:
    """The tokens that are asked for."""
    fields = {target.token: f"targets.{number}.token" for number, target in enumerate(request.targets) if target.token}
    found = await asyncio.gather(
        *(tokens.embedding_of(resources.redis, resources.store, name, card, field=field) for name, field in fields.items())
    )
    return dict(zip(fields, found, strict=True))


def questions_of(request: AttributeRequest, model: Model, trace: ovam.Trace, learned: Learned) -> list[Question]:
    """What is asked, in the order of the targets. ServiceError for settings or embeddings that cannot be used."""
    cards, blocks = method_cards(), blocks_of(trace)
    questions = []
    for number, target in enumerate(request.targets):
        chosen = effective(request, number, model.card, cards, self_attention=bool(trace.self_attention))
        found = selected(chosen, blocks, len(trace.evaluations))
        names = None if len(found) == len(blocks) else named(found)
        method = ovam.method(f"{chosen.method}-{KINDS[target.kind]}", chosen.settings | {"blocks": names})
        settings = counting(settings_of(method) | {"blocks": chosen.settings["blocks"]})
        sought = sought_by(target, model, learned, field=f"targets.{number}")
        questions.append(Question(target, sought, chosen.method, method, settings))
    return questions


def sought_by(target: Target, model: Model, learned: Learned, *, field: str) -> ovam.Words | ovam.Rows:
    """What the library looks for. ServiceError: unknown-class, embedding-of-other-width, embedding-not-finite."""
    if target.prompt is not None:
        return ovam.Words(target.prompt, target.word, target.occurrence)
    if target.token is not None:
        card, rows = learned[target.token]
        return ovam.Rows(rows, (card.row(target.class_name, field=f"{field}.class_name"),))
    rows = target.embedding or []
    check_embedding(rows, model.card, field=f"{field}.embedding")
    return ovam.Rows(torch.tensor(rows, dtype=torch.float32), None if target.rows is None else tuple(target.rows))
