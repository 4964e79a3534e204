"""What a job is expected to take, and what of a model that follows from."""

from pydantic import Field

from contracts.schema.fields import Schema


class Estimate(Schema):
    """What a job was expected to take when it was submitted."""

    memory_bytes: int
    """On the worker's device, at the worst moment."""
    kept_bytes: int
    """Size of its files, which are kept until it expires."""
    work: float
    """How much there is to do, in a unit of the job's kind: two jobs of a kind and a model compare by it."""
    seconds: float | None = None
    """How long it runs, by what such work took lately; null while nobody knows."""


class ModelSizes(Schema):
    """How large a model is, and how workers run it: what estimates are made from."""

    parameters: int
    """Of all its parts."""
    latent_factor: int
    """Pixels of an image's side for one of its latent."""
    unet_channels: int
    """Of the UNet on its largest grid; of a transformer its width, divided among the pixels of a patch."""
    vae_channels: int
    """Of the decoder at the image's size."""
    channels: dict[str, int]
    """Of every cross-attention block's queries, all heads together."""
    self_attention: dict[str, int]
    """The same of the self-attention blocks on the largest grid."""
    self_attention_level: int = 0
    """How often the latent is halved on that grid."""
    scheduler_evaluations: dict[str, tuple[int, int]] = Field({})
    """Of schedulers that do not evaluate the UNet once a step: how often a step, and how often besides."""
    latent_channels: int = 4
    """Numbers of a pixel of a latent."""
    text_rows: int | None = None
    """Rows of a text, as the model is given it; null: the model's `max_tokens`."""
    number_bytes: int = 4
    """Of a number on the workers' devices."""
    batch_images: int = 1
    """Images that are drawn at a time."""
    on_cpu: bool = True
    """Whether the device's memory is the machine's own."""
    device_bytes: int | None = None
    """Memory of the device; null if it is not known."""
