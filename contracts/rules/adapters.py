"""Adapters of a request: found among those of its model, or refused with the reason."""

from collections.abc import Mapping, Sequence
from typing import Any

from contracts.schema.adapters import AdapterCard, AdapterKind, UsedAdapter
from contracts.schema.conditions import Source
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import GenerateJob, GenerateRequest, ImagesResult
from contracts.schema.models import ModelCard

WHOLE = 1.0  # scale of a textual inversion


def used(request: GenerateRequest, card: ModelCard) -> list[UsedAdapter]:
    """The adapters of a request with what they are. Raises unknown-adapter, adapter-unfit or settings-contradict."""
    found = []
    for place, use in enumerate(request.adapters):
        field = f"adapters.{place}"
        adapter = adapter_of(card, use.name, ("lora", "textual-inversion"), field=f"{field}.name")
        if adapter.kind == "textual-inversion" and use.scale != WHOLE:
            detail = f"`{field}.scale` is {use.scale}; allowed for a textual inversion, which is a word: 1"
            raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field=f"{field}.scale", value=use.scale)
        found.append(UsedAdapter(name=use.name, scale=use.scale, kind=adapter.kind, weights=adapter.weights))
    return found


def filled_steering(request: GenerateRequest, card: ModelCard, pictures: Mapping[str, Source]) -> dict[str, Any]:
    """A request's ControlNet and its image prompt, as a job has them. Raises unknown-adapter or adapter-unfit."""
    found: dict[str, Any] = {}
    for field, kind, each in (("control", "controlnet", request.control), ("image_prompt", "ip-adapter", request.image_prompt)):
        if each is not None:
            adapter = adapter_of(card, each.name, (kind,), field=f"{field}.name")
            found[field] = dict(each) | {"image": pictures[f"{field}.image"], "weights": adapter.weights}
    return found


def check_control(job: GenerateJob, size: tuple[int, int] | None) -> None:
    """Raise settings-contradict for an image to follow of another (height, width) than the image that is drawn."""
    if size is not None and size != (job.height, job.width):
        detail = (
            f"`control.image` is {size[1]} wide and {size[0]} high; "
            f"allowed: the size of the image that is drawn, {job.width} wide and {job.height} high"
        )
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="control.image", value=f"{size[1]}x{size[0]}")


def adapter_of(card: ModelCard, name: str, kinds: Sequence[AdapterKind], *, field: str) -> AdapterCard:
    """A model's adapter of some kinds. Raises unknown-adapter or adapter-unfit."""
    names = [each.name for each in card.adapters if each.kind in kinds]
    for each in card.adapters:
        if each.name == name and each.kind in kinds:
            return each
        if each.name == name:
            detail = f"`{field}` is {name!r}, which is of kind {each.kind!r}; allowed here: {allowed(names)}"
            raise ServiceError(Code.ADAPTER_UNFIT, detail, field=field, value=name)
    if name in card.other_adapters:
        detail = (
            f"`{field}` is {name!r}, which model {card.name!r} cannot use: {card.other_adapters[name]}; allowed: {allowed(names)}"
        )
        raise ServiceError(Code.ADAPTER_UNFIT, detail, field=field, value=name)
    detail = f"`{field}` is {name!r}; allowed for model {card.name!r}: {allowed(names)}"
    raise ServiceError(Code.UNKNOWN_ADAPTER, detail, field=field, value=name)


def allowed(names: Sequence[str]) -> str:
    """The names that are allowed."""
    return ", ".join(names) or "none, since no such adapter of it is registered (OVAM_ADAPTERS)"


def check_there(images: ImagesResult, card: ModelCard, *, field: str) -> None:
    """Raise unknown-adapter unless the adapters with which images were made are still there, and the same."""
    there = {each.name: each.weights for each in card.adapters}
    for use in asked_again(images):
        if there.get(use.name) != use.weights:
            what = "is another file now" if use.name in there else "is registered no more (OVAM_ADAPTERS)"
            detail = f"the images of `{field}` were made with adapter {use.name!r} ({use.weights}), which {what}"
            raise ServiceError(Code.UNKNOWN_ADAPTER, detail, field=field, value=use.name)


def asked_again(images: ImagesResult) -> list[UsedAdapter]:
    """The adapters that a question about images needs: what a ControlNet added is in what was kept."""
    return [each for each in images.adapters if each.kind != "controlnet"]


def concepts(card: ModelCard, uses: Sequence[UsedAdapter]) -> dict[str, int]:
    """What stands for textual inversions in a prompt, and how many tokens each is."""
    names = {each.name for each in uses}
    return {each.token: each.vectors or 1 for each in card.adapters if each.name in names and each.token}
