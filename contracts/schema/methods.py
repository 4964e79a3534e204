"""Methods and their settings: the published ones, and a request's changes of them."""

from dataclasses import fields
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, TypeAdapter, create_model, model_serializer

from contracts.schema.fields import Blocks, Name, Positions, Schema, by_kind, suggestion
from ovam.core.methods import METHODS, Method, MethodName
from ovam.errors import shown

NetworkName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
BOUNDED = {
    "blocks": Blocks,
    "evaluations": Positions,
    "heads": Positions,
    "network": NetworkName,
}  # the same as in `Method`, with limits of size
TAGGED = ("refine", "threshold")


def optional_fields() -> dict[str, Any]:
    """Declare every setting of a `Method` as a field that may be left out, with the description it has there."""
    described = TypeAdapter(Method).json_schema()["properties"]
    hints = get_type_hints(Method, include_extras=True)
    declared = {}
    for setting in fields(Method):
        kind = BOUNDED.get(setting.name, hints[setting.name])
        if setting.name in TAGGED:
            kind = Annotated[kind, Field(discriminator="kind"), by_kind(*get_args(kind))]
        declared[setting.name] = (kind | None, Field(None, description=described[setting.name].get("description")))
    return declared


class PartialSettings(Schema):
    """Changes of a method's settings. A setting that is left out stays the method's own."""

    def changes(self) -> dict[str, Any]:
        """Return the settings that are given. `crf` may be given as null: no CRF."""
        given = [name for name in type(self).model_fields if name in self.model_fields_set]  # in an order that every process has
        return {name: getattr(self, name) for name in given if name == "crf" or getattr(self, name) is not None}

    @model_serializer(mode="wrap")
    def only_changes(self, serialize: SerializerFunctionWrapHandler):  # noqa: ANN201 - a return type would replace the schema
        """Write the settings that are given alone, so that what is read again changes the same."""
        written = serialize(self)
        return {name: written[name] for name in self.changes() if name in written}


Settings = create_model("Settings", __base__=PartialSettings, __doc__=PartialSettings.__doc__, **optional_fields())


def known_method(name: object) -> object:
    """Refuse the name of no method, with the one that is close to it."""
    if isinstance(name, str) and name not in METHODS:
        raise ValueError(f"there is no method {shown(name)}; allowed: {', '.join(METHODS)}{suggestion(name, [*METHODS])}")
    return name


KnownMethod = Annotated[MethodName, BeforeValidator(known_method)]
"""The name of a published method."""


class MethodCard(Schema):
    """A published method: its settings for words and for learned tokens."""

    name: Name
    source: str
    """Where it was published."""
    words: Method
    tokens: Method
