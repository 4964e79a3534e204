"""What the gateway knows of a model. Workers publish the cards; the gateway loads no model."""

from typing import Final, Literal

from pydantic import Field

from contracts.schema.adapters import AdapterCard
from contracts.schema.estimates import ModelSizes
from contracts.schema.fields import Keep, Schema
from contracts.schema.images import BlockInfo
from contracts.schema.methods import Settings
from ovam.core.confidence import Calibration
from ovam.core.methods import Attention, Method, MethodName, TargetKind

Family = Literal["sd1", "sd2", "sdxl", "pixart", "sana", "sd3", "flux", "flux2"]
UNETS: Final[frozenset[Family]] = frozenset(("sd1", "sd2", "sdxl"))

Ability = Literal[
    "image",
    "mask",
    "negative_prompt",
    "emphasis",
    "clip_skip",
    "queries",
    "confidence",
    "causal",
    "aggregation",
    "lora",
    "textual-inversion",
    "controlnet",
    "ip-adapter",
]
"""Fields of a generation and of a question, what `keep` of a capture may be besides `replay`, kinds of adapters, and
`aggregation`: that `automatic` is allowed there."""


class BestMethod(Schema):
    """A method and what is changed of its settings."""

    method: MethodName = "ovam"
    settings: Settings = Field(default_factory=Settings)  # type: ignore[valid-type]


class MaskCalibration(Schema):
    """What IoU to expect of masks, measured for one way to find them."""

    images: Literal["generate", "image"]
    """The kind of job whose images were measured: generated ones, or real ones."""
    targets: TargetKind
    settings: Method
    """All settings: with others, nothing is known."""
    calibration: Calibration


class ModelCard(Schema):
    """A model that workers serve, with what is needed to check a request for it."""

    name: str
    source: str
    """Hub id or path."""
    family: Family
    text_width: int
    """Width of a token's embedding."""
    max_tokens: int
    """Tokens of a prompt, start and end marks included."""
    default_height: int
    default_width: int
    size_multiple: int
    """Height and width are multiples of it."""
    default_guidance_scale: float
    default_scheduler: str = ""
    schedulers: list[str] = Field([])
    """Diffusers classes that `scheduler` of a generation may name."""
    guidance_embedded: bool = False
    """Whether the UNet takes the guidance scale as an input and has no unconditional branch."""
    attentions: list[Attention] = Field(["cross"])
    """What `attention` of a setting may name; the first is taken where it is left out."""
    blocks: list[BlockInfo] = Field([])
    """Its cross-attentions, as they are at its default size."""
    default_keep: Keep = "replay"
    """What is kept of an image's attention when a request does not say."""
    default_self_attention: bool = False
    """Whether self-attention is kept beside queries when a request does not say."""
    word_defaults: BestMethod = Field(default_factory=BestMethod)
    """How words are looked for when a request names no method."""
    token_defaults: BestMethod = Field(default_factory=BestMethod)
    """How learned tokens are looked for when a request names no method."""
    calibrations: list[MaskCalibration] = Field([])
    """What IoU with the true mask to expect of its masks, where `confidence` is asked for."""
    networks: list[str] = Field([])
    """The trained networks that methods may ask for, in `network` of their settings."""
    clip: str | None = None
    """The CLIP model (hub id or path) by which its workers compare images to texts; null: none."""
    can: list[Ability] = Field([])
    """What may be asked of it, beside images of a prompt."""
    cannot: dict[str, str] = Field({})
    """What is refused of it, named as in `can`: why, for each."""
    adapters: list[AdapterCard] = Field([])
    """What a request may name to change the model for its images."""
    other_adapters: dict[str, str] = Field({})
    """Adapters that are registered and cannot be used with this model: by name, why."""
    max_clip_skip: int = 0
    """Most of `clip_skip`: layers of its text encoder that can be left out."""
    sizes: ModelSizes | None = None
    """What the cost of a job is estimated from."""
    default: bool = False

    @property
    def joint(self) -> bool:
        """Whether pixels and text attend together: its attention is computed when it is asked for."""
        return "joint" in self.attentions

    @property
    def attention_family(self) -> str:
        """Its family by how its attention is read: tokens of one family say nothing in another."""
        return "unet" if self.family in UNETS else self.family
