"""What the gateway knows of a model. Workers publish the cards; the gateway loads no model."""

from typing import Literal

from pydantic import Field

from contracts.attribution import MethodName, Settings
from contracts.fields import Frozen
from contracts.generation import BlockInfo

Family = Literal["sd1", "sd2", "sdxl"]


class Choice(Settings):
    """A method and what is changed of its settings."""

    method: MethodName = "ovam"


class ModelCard(Frozen):
    """A model that workers serve, with what is needed to check a request for it."""

    name: str
    source: str = Field(description="hub id or path")
    family: Family
    text_width: int = Field(description="width of a token's embedding")
    max_tokens: int = Field(description="tokens of a prompt, start and end marks included")
    default_height: int
    default_width: int
    size_multiple: int = Field(description="height and width are multiples of it")
    default_guidance_scale: float
    default_scheduler: str = ""
    schedulers: list[str] = Field([], description="diffusers classes that `scheduler` of a generation may name")
    guidance_embedded: bool = Field(
        False, description="whether the UNet is told the guidance scale and draws no unconditional half"
    )
    blocks: list[BlockInfo] = Field([], description="its cross-attentions, as they are at its default size")
    default_self_attention: bool = Field(False, description="whether self-attention is kept when a request does not say")
    word_defaults: Choice = Field(Choice(), description="how words are looked for when a request names no method")
    token_defaults: Choice = Field(Choice(), description="how learned tokens are looked for when a request names no method")
    default: bool = False
