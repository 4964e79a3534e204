"""Adapters: what changes a model for one job, registered by name as models are."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from contracts.schema.fields import Name, Schema

AdapterKind = Literal["lora", "textual-inversion", "controlnet", "ip-adapter"]
MOST_ADAPTERS = 8  # of a generation
MOST_SCALE = 4.0


class AdapterCard(Schema):
    """An adapter that workers have for a model."""

    name: Name
    kind: AdapterKind
    weights: str
    """Hash of its file, 16 hexadecimal digits."""
    size: int
    """Bytes of its weights; an IP-Adapter's image encoder is among them."""
    token: str | None = None
    """Of a textual inversion: what stands for it in a prompt."""
    vectors: int | None = None
    """Of a textual inversion: how many tokens of a prompt that takes."""


class AdapterUse(Schema):
    """An adapter, and how much of it."""

    name: Name
    """A LoRA or a textual inversion among the model's `adapters` of GET /v1/models."""
    scale: Annotated[float, Field(ge=-MOST_SCALE, le=MOST_SCALE)] = 1.0
    """Of a LoRA; a textual inversion takes 1 alone."""


def named_once(adapters: Sequence[AdapterUse]) -> Sequence[AdapterUse]:
    """Raise ValueError for an adapter that is there twice."""
    names = [adapter.name for adapter in adapters]
    if len({*names}) < len(names):
        raise ValueError(f"`adapters` names {next(name for name in names if names.count(name) > 1)!r} twice")
    return adapters


Adapters = Annotated[list[AdapterUse], Field(max_length=MOST_ADAPTERS), AfterValidator(named_once)]
ClipSkip = Annotated[int, Field(ge=0, lt=64)]


class UsedAdapter(AdapterUse):
    """The same with nothing left to what the name means later."""

    kind: AdapterKind
    weights: str
    """Hash of its file, 16 hexadecimal digits: a later question needs the same."""
