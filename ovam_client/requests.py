"""What may be asked for, beside what functions take by name.

Written by `python -m tests.client.schemas`; do not edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Required, TypedDict


class Span(TypedDict, total=False):
    """A range of positions as Python's slices count them: `stop` is left out, negative numbers count from the end.

    A number from 0 to below 1 that is not whole is a fraction of the way: `Span(0.5)` is the second half.
    """

    start: int | float | None
    """First position; 0 without it."""
    stop: int | float | None
    """Position after the last; to the end without it."""
    step: int | None
    """Distance between positions; 1 without it."""


class CaptureOptions(TypedDict, total=False):
    """What is kept of the attention of an image (Eq. 1). What is not kept is not available later."""

    branch: Literal["conditional", "unconditional"]
    """The guidance branch: attention to the prompt, or to the negative prompt."""
    blocks: Literal["all"] | Sequence[int | str]
    """Cross-attention blocks, by part of their name or by resolution."""
    mid_block: bool
    """Keep the mid block too, which the paper leaves out."""
    evaluations: Literal["all"] | int | float | Sequence[int] | Span
    """UNet evaluations."""
    heads: Literal["all"] | int | float | Sequence[int] | Span
    """Attention heads of every block."""
    keep: Literal["replay", "queries"] | None
    """`replay`: what the UNet was given (megabytes), from which the worker computes queries again when they are asked for and
    not in memory, as long as it serves the same weights. `queries`: the queries themselves (hundreds of megabytes), which
    outlive the weights. The deployment's default without it."""
    precision: Literal["float16", "bfloat16", "int8"] | None
    """Of queries that are kept; `int8` has a scale for each channel, and half the size of `float16`, the default."""
    self_attention: bool | None
    """With `keep: queries`: keep the self-attention of the largest grid too, for refinement; the model's own default without
    it. A replay has it anyway."""


class AdapterUse(TypedDict, total=False):
    """An adapter, and how much of it."""

    name: Required[str]
    """A LoRA or a textual inversion among the model's `adapters` of GET /v1/models."""
    scale: float
    """Of a LoRA; a textual inversion takes 1 alone."""


class JobImage(TypedDict, total=False):
    """An image of a job that has images, and succeeded: a generated one, or a real one that was uploaded."""

    job_id: Required[str]
    image: int
    """Which of its images."""


class Control(TypedDict, total=False):
    """A ControlNet: an image of edges, depth or poses that the drawing follows."""

    name: Required[str]
    """A ControlNet among the model's `adapters`."""
    image: Required[str | JobImage]
    """What it follows, of the size of the image that is drawn: a PNG, JPEG or WebP in base64, or an image of a job."""
    scale: float
    """How much it counts."""
    start: float
    """The share of the steps after which it begins to count."""
    end: float
    """The share of the steps after which it does no more."""


class ImagePrompt(TypedDict, total=False):
    """An image that says beside the prompt what to draw (IP-Adapter)."""

    name: Required[str]
    """An IP-Adapter among the model's `adapters`."""
    image: Required[str | JobImage]
    """A PNG, JPEG or WebP in base64, or an image of a job."""
    scale: float
    """How much it counts."""


class Emphasis(TypedDict, total=False):
    """How much a word of the prompt counts."""

    word: Required[str]
    """A word, or several, of the prompt."""
    weight: Required[float]
    """1 changes nothing; 0: as if nothing stood there."""
    occurrence: int | None
    """Which occurrence of the word, from 0; all without it."""


class NoRefinement(TypedDict, total=False):
    """The threshold cuts the heatmap as it is."""

    kind: Required[Literal["none"]]


class ByAttention(TypedDict, total=False):
    """Weight heat by the self-attention that each pixel receives, rescaled to [alpha, 1] (Eq. 8)."""

    alpha: float
    """Least weight."""
    sign: Literal[1, -1]
    """1: pixels that receive much attention keep more heat; -1: less."""
    kind: Required[Literal["attention"]]


class ByAffinity(TypedDict, total=False):
    """Spread heat along the self-attention: every pixel gets the mean heat of the pixels that it attends to."""

    steps: int
    """How many times."""
    kind: Required[Literal["affinity"]]


class ByBoth(TypedDict, total=False):
    """Spread heat along the self-attention, then weight it by the attention received."""

    steps: int
    """How many times heat is spread."""
    alpha: float
    """Least weight."""
    sign: Literal[1, -1]
    """1: pixels that receive much attention keep more heat; -1: less."""
    kind: Required[Literal["both"]]


class Share(TypedDict, total=False):
    """Inside is what reaches a share of the hottest pixel's heat (Eq. 9)."""

    tau: float
    """The share, above 0, at most 1."""
    normalize: Literal["max", "minmax"]
    """`minmax` first moves the coolest pixel to 0, for maps with a high floor."""
    kind: Required[Literal["share"]]


class Absolute(TypedDict, total=False):
    """Inside is what reaches a level."""

    level: Required[float]
    """In the heatmap's own unit: a probability for reduction `mean`."""
    kind: Required[Literal["absolute"]]


class Otsu(TypedDict, total=False):
    """Inside is the hotter of the two groups whose means differ most (Otsu's criterion, over all cuts)."""

    kind: Required[Literal["otsu"]]


class CrfParameters(TypedDict, total=False):
    """Parameters of SimpleCRF's dense CRF; the defaults are the paper's."""

    bilateral_weight: float
    """Weight of the kernel over position and colour."""
    bilateral_distance: float
    """Its standard deviation in pixels."""
    bilateral_colour: float
    """Its standard deviation in steps of 0 to 255."""
    gaussian_weight: float
    """Weight of the kernel over position alone."""
    gaussian_distance: float
    """Its standard deviation in pixels."""
    iterations: int
    """Mean-field iterations."""


class Settings(TypedDict, total=False):
    """Changes of a method's settings. A setting that is left out stays the method's own."""

    blocks: Literal["all"] | Sequence[int | str] | None
    """Cross-attention blocks: `"all"`, or by a part of their name (`"up"`, `"down_blocks.1"`) or their resolution (16)."""
    evaluations: Literal["all"] | int | float | Sequence[int] | Span | None
    """UNet evaluations: `"all"`, a position from 0 (negative: from the end), a fraction of the way (0.5: the middle one), a
    range or a list."""
    heads: Literal["all"] | int | float | Sequence[int] | Span | None
    """Heads of every block, selected as evaluations are."""
    attention: Literal["cross", "concept", "joint", "text"] | None
    """Whose attention, of those that the model's family has; `null`: the family's first, `cross` or `concept`."""
    padding: Literal["none", "max_length"] | None
    """Softmax over the prompt's own tokens (`none`), or over the encoder's full length, as during generation (`max_length`)."""
    reduction: Literal["mean", "sum"] | None
    """Of blocks, evaluations and heads (Eq. 5): with `mean` heat lies in [0, 1]."""
    refine: NoRefinement | ByAttention | ByAffinity | ByBoth | None
    """What self-attention does to the heat before the threshold."""
    threshold: Share | Absolute | Otsu | None
    """Which heat counts as inside (Eq. 9)."""
    crf: CrfParameters | None
    """Fit the mask to the image's edges with a dense CRF; `null`: do not."""
    minimum_area: int | None
    """Drop connected regions of fewer pixels."""
    fill_holes: bool | None
    """Fill the holes of the mask."""
    network: str | None
    """The trained network that gives the heat, a probability, instead of attention; `null`: none. By its name among those of
    the model."""
    aggregation: Literal["equal", "automatic"] | None
    """How much each block and head weighs: `equal`, as published; or `automatic`, by its part in what the image's own
    generation wrote, after the idea of GoCA. The latter needs a replay, and a model with cross-attention."""


class EmbeddingTarget(TypedDict, total=False):
    """Rows of an embedding."""

    settings: Settings | None
    """For this target alone; they win over the request's."""
    label: Required[str]
    """Its name in the answer."""
    embedding: Required[Sequence[Sequence[float]]]
    """Rows (tokens, text width) to take the softmax over."""
    rows: Sequence[int] | None
    """Rows whose maps are averaged; all but the first without it."""


class TokenTarget(TypedDict, total=False):
    """A learned token."""

    settings: Settings | None
    """For this target alone; they win over the request's."""
    label: str | None
    """Its name in the answer; the token's class, or its name, without it."""
    token: Required[str]
    """`cat@2`, or `cat` for its newest version."""
    class_name: str | None
    """Which class of a token that knows several; needed for those."""


class WordsTarget(TypedDict, total=False):
    """A word or phrase of an attribution prompt, which need not be the image's own."""

    settings: Settings | None
    """For this target alone; they win over the request's."""
    label: str | None
    """Its name in the answer; the word, or the prompt, without it."""
    prompt: str | None
    """The attribution prompt; "a photograph of a <word>" without it."""
    word: str | None
    """A word or phrase of the prompt; all words of the prompt without it."""
    occurrence: int | None
    """The n-th occurrence of the word, from 0; all occurrences without it."""


class SemanticOptions(TypedDict, total=False):
    """One map of labels: each pixel gets the target with the largest margin over its threshold, or the background."""

    least_gap: float
    """A pixel whose winner is ahead of the second by less is ambiguous and gets the label 255."""
    labels: Sequence[int] | None
    """The label of each target, such as Pascal VOC's 7 for a car; 1, 2, ... without it."""


class InstanceOptions(TypedDict, total=False):
    """Split masks into connected regions."""

    minimum_area: int
    """Pixels; smaller regions are left out."""
    connectivity: Literal[4, 8]
    """Whether regions may touch at corners (8) or not (4)."""
    most: int
    """Regions of a mask, the largest first; further ones are left out."""


class Gate(TypedDict, total=False):
    """How much of an image a target must cover. An image in which it does not is given up while it is drawn."""

    target: Required[str]
    """The label of one of the targets; a word's is the word, unless it has another."""
    min_area: float
    """Share of the image's pixels, at least."""
    max_area: float
    """Share of the image's pixels, at most."""
    at: float
    """When it is decided: after this share of the evaluations, or as soon afterwards as the target's settings select one."""
    on_fail: Literal["stop", "next-seed"]
    """Leave the image out, or draw it again with another seed."""
    seeds: int
    """How many seeds are tried for an image, the first among them, with `next-seed`. Image k of n tries seed + k, then
    seed + k + n, ..."""


class GenerateOptions(TypedDict, total=False):
    """Generate images and keep their pixel queries; look for targets in them while they are drawn."""

    negative_prompt: str
    """What to avoid."""
    model: str | None
    """A name from GET /v1/models; the deployment's default without it."""
    seed: int | None
    """Image k has seed + k; random without it."""
    num_inference_steps: int
    """Steps of the scheduler."""
    guidance_scale: float | None
    """The model's own default without it."""
    height: int | None
    """Pixels; the model's native size without it."""
    width: int | None
    """Pixels; the model's native size without it."""
    num_images: int
    """How many images."""
    scheduler: str | None
    """A diffusers class from the model's `schedulers`; the model's own without it."""
    capture: CaptureOptions
    """What is kept of the images' attention."""
    strength: float | None
    """How much of `image` is replaced: its share of the steps is made. 0.8 without it, and 1 with a mask."""
    adapters: Sequence[AdapterUse]
    """LoRAs and textual inversions, by their names: several work together."""
    control: Control | None
    """Follow an image's edges, depth or poses. What the UNet computed is then kept as queries."""
    image_prompt: ImagePrompt | None
    """Draw what an image shows, beside what the prompt says."""
    emphasis: Sequence[Emphasis]
    """Words of the prompt that count more, or less, than others."""
    clip_skip: int | None
    """Leave out that many of the text encoder's last layers; questions about the image do, too."""
    softmax: Literal["each", "together"]
    """Over a target's own prompt, or its token's rows (`each`); or over all targets and distractors (`together`): each pixel's
    attention is divided among them, so that what one claims the others lose."""
    distractors: Sequence[EmbeddingTarget | TokenTarget | WordsTarget]
    """Further targets that compete and get no segment, with `softmax` `together`. They take no `settings`."""
    method: Literal["ovam", "daam", "attn2mask", "grounded-diffusion", "datasetdm", "datasetdm-published"] | None
    """A published method, see GET /v1/methods; the model's own best settings without it."""
    settings: Settings | None
    """Changes of the method's settings, for every target."""
    maps: Sequence[Literal["block", "evaluation", "head"]]
    """Also the heatmaps of every single block, evaluation or head, as `.npy`."""
    semantic: SemanticOptions | None
    """Also one map of labels over all targets, an indexed PNG in Pascal VOC's palette."""
    instances: InstanceOptions | None
    """Also the connected regions of every mask."""
    confidence: bool
    """Also how sure each mask is: how far halves of the attention agree with it, and which IoU to expect of that."""
    every: int
    """Evaluations between two previews, which come with the job's `progress` events."""
    gate: Gate | None
    """Give up images in which a target covers too little or too much."""


class ImageOptions(TypedDict, total=False):
    """Keep the pixel queries of a real image."""

    prompt: str
    """A caption of the image; may stay empty."""
    model: str | None
    """A name from GET /v1/models; the deployment's default without it."""
    height: int | None
    """Pixels the image is resized to; near the model's native size without it."""
    width: int | None
    """Pixels the image is resized to; near the model's native size without it."""
    seed: int
    """Of the noise."""
    inversion: Literal["none", "ddim"]
    """Add noise at each timestep, or follow DDIM's deterministic path from the image."""
    timesteps: Sequence[int] | None
    """Where noise is added, for inversion `none`; 900, 800 ... 100 without it."""
    num_inference_steps: int | None
    """Steps of the DDIM inversion; 30 without it."""
    capture: CaptureOptions
    """What is kept of the image's attention."""


class AppraisalOptions(TypedDict, total=False):
    """What to say of the image as a whole."""

    clip: Sequence[str]
    """Texts that CLIP compares to the image; the model's workers need one (`clip` of its card)."""


class CausalOptions(TypedDict, total=False):
    """Draw the image again without each target's word, which must be a word alone, and see what changes."""

    from_evaluation: int | float
    """From this evaluation on the UNet gets the prompt without the word: a position from 0, or a fraction of the way. Early ones
    lay out the image, late ones draw what is in it."""
    instead: str | None
    """A word in its place; none without it."""


class AttributeOptions(TypedDict, total=False):
    """Ask where in an image some targets are."""

    softmax: Literal["each", "together"]
    """Over a target's own prompt, or its token's rows (`each`); or over all targets and distractors (`together`): each pixel's
    attention is divided among them, so that what one claims the others lose."""
    distractors: Sequence[EmbeddingTarget | TokenTarget | WordsTarget]
    """Further targets that compete and get no segment, with `softmax` `together`. They take no `settings`."""
    method: Literal["ovam", "daam", "attn2mask", "grounded-diffusion", "datasetdm", "datasetdm-published"] | None
    """A published method, see GET /v1/methods; the model's own best settings without it."""
    settings: Settings | None
    """Changes of the method's settings, for every target."""
    maps: Sequence[Literal["block", "evaluation", "head"]]
    """Also the heatmaps of every single block, evaluation or head, as `.npy`."""
    semantic: SemanticOptions | None
    """Also one map of labels over all targets, an indexed PNG in Pascal VOC's palette."""
    instances: InstanceOptions | None
    """Also the connected regions of every mask."""
    confidence: bool
    """Also how sure each mask is: how far halves of the attention agree with it, and which IoU to expect of that."""
    appraisal: AppraisalOptions | None
    """Also what the image as a whole is like: what data sets are filtered by."""
    against: str | None
    """Another job with an image of the same model and size, in which the same is looked for: how do its heat and masks differ?"""
    against_image: int
    """Which of that job's images."""
    causal: CausalOptions | None
    """Also draw the image again without each target's word: what changes, inside of its mask and outside? It takes as long as to
    generate an image for each target, and one more."""


class ProbeOptions(TypedDict, total=False):
    """A place in an image and the words to choose among."""

    image: int
    """Which image of the job."""
    padding: Literal["none", "max_length"]
    """Softmax over the prompt's own tokens (`none`), or over the encoder's full length (`max_length`)."""
    blocks: Literal["all"] | Sequence[int | str]
    """Blocks of the trace."""
    evaluations: Literal["all"] | int | float | Sequence[int] | Span
    """Evaluations of the trace."""
    heads: Literal["all"] | int | float | Sequence[int] | Span
    """Heads of every block."""
    point: tuple[int, int] | None
    """x, y of a pixel."""
    box: tuple[int, int, int, int] | None
    """x, y, width, height in pixels."""
    words: Sequence[str] | None
    """Words or phrases; all words of the prompt without them."""
    prompt: str | None
    """The attribution prompt; a sentence of the words without it."""


class WordInitial(TypedDict, total=False):
    """A class starts from a word."""

    word: Required[str]
    """Its last sub-token in "A photograph of a <word>"."""


class EmbeddingInitial(TypedDict, total=False):
    """A class starts from a row."""

    embedding: Required[Sequence[float]]


class TokenInitial(TypedDict, total=False):
    """A class starts from a learned token; the first such token's background is what the background starts from."""

    token: Required[str]
    """`cat@2`, or `cat` for its newest version."""
    class_name: str | None
    """Which class of a token that knows several; needed for those."""


class Constant(TypedDict, total=False):
    """The rate stays."""

    kind: Required[Literal["constant"]]


class Step(TypedDict, total=False):
    """The rate is multiplied by a factor every so many epochs; the defaults are those of the authors' script."""

    every: int
    """Epochs between two falls."""
    factor: float
    """What the rate is multiplied by."""
    kind: Required[Literal["step"]]


class Cosine(TypedDict, total=False):
    """The rate falls along half a cosine."""

    floor: float
    """The rate of the last epoch, as a fraction of the first one's."""
    kind: Required[Literal["cosine"]]


class LearnOptions(TypedDict, total=False):
    """Learn a token of one or several classes from annotated images (OVAM, section 3.3)."""

    initial: Sequence[WordInitial | EmbeddingInitial | TokenInitial | None] | None
    """What each class starts from, in their order; null: its name as a word."""
    noise: float
    """Standard deviation of noise on the initial embeddings."""
    seed: int
    """Of that noise; all else is deterministic."""
    epochs: int
    """Most epochs."""
    optimizer: Literal["sgd", "adam"]
    learning_rate: float | None
    """The optimiser's own default without it: 100 for `sgd`, 0.1 for `adam`."""
    schedule: Constant | Step | Cosine
    """How the learning rate falls; without it, in steps."""
    loss: Literal["bce", "cross_entropy_minmax"]
    patience: int | None
    """Epochs without gain after which it ends; null: never."""
    blocks: Literal["all"] | Sequence[int | str]
    """Blocks of the traces."""
    evaluations: Literal["all"] | int | float | Sequence[int] | Span
    """Evaluations of the traces."""


class Generation(TypedDict, total=False):
    """How the images are generated, as in a generate request."""

    model: str | None
    """A name from GET /v1/models; the deployment's default without it."""
    negative_prompt: str
    num_inference_steps: int
    guidance_scale: float | None
    height: int | None
    width: int | None
    scheduler: str | None
    adapters: Sequence[AdapterUse]
    """LoRAs and textual inversions, by their names."""
    clip_skip: int | None
    """Leave out that many of the text encoder's last layers."""


class Attribution(TypedDict, total=False):
    """How the classes are looked for, as in an attribute request."""

    method: Literal["ovam", "daam", "attn2mask", "grounded-diffusion", "datasetdm", "datasetdm-published"] | None
    """A published method, see GET /v1/methods; the model's own best settings without it."""
    settings: Settings | None
    """Changes of the method's settings, for every class."""
    softmax: Literal["each", "together"]
    """Over each class's own prompt (`each`), or over all classes of the image and the distractors (`together`)."""
    distractors: Sequence[EmbeddingTarget | TokenTarget | WordsTarget]
    """Further targets that compete and get no mask, with `softmax` `together`."""


class AreaShare(TypedDict, total=False):
    """Masks that cover less or more of the image are rejected."""

    least: float
    most: float
    kind: Literal["share"]


class AreaPercentiles(TypedDict, total=False):
    """Of each class, the smallest and the largest masks are rejected."""

    kind: Literal["percentiles"]
    least: float
    """Percentile below which a mask is too small."""
    most: float
    """Percentile above which a mask is too large."""


class ClipCosine(TypedDict, total=False):
    """CLIP's cosine between the image and a text."""

    kind: Literal["cosine"]
    prompt: str
    drop: float
    """Of each class, the share of images with the lowest scores that is rejected."""


class ClipContrast(TypedDict, total=False):
    """CLIP's probability of one text against another."""

    kind: Literal["contrast"]
    prompt: str
    against: str
    drop: float
    """Of each class, the share of images with the lowest scores that is rejected."""


class ConfidenceRange(TypedDict, total=False):
    """Images in which a mask is less sure, or more, are rejected: `confidence.value` of its segment."""

    least: float
    most: float


class Filters(TypedDict, total=False):
    """Which images are rejected."""

    area: AreaShare | AreaPercentiles | None
    clip: ClipCosine | ClipContrast | None
    confidence: ConfidenceRange | None
    single_colour: bool
    """Images all of whose pixels have one colour."""
    duplicates: Literal["exact", "perceptual"] | None
    """Images that are, byte for byte or by a hash of how they look, the same as an earlier one."""
    preset: Literal["paper", "published-code"] | None
    """The filters of the paper (CLIP's cosine, the lowest 30 % dropped; masks of 5 to 95 % of the image), or of its published
    code (CLIP's contrast, 25 %; percentiles 5 to 95; single-coloured images). Fields given beside it win."""


class DatasetOptions(TypedDict, total=False):
    """Generate images, find the classes in them, and keep what passes the filters.

    Prompts come in one of three ways: `prompts`, `jsonl`, or `templates`.
    """

    name: str | None
    """What you call it."""
    images_per_prompt: int
    """Images of each prompt, with a seed each."""
    seed: int
    """Image n of the data set has seed + n; image k of a prompt with its own seed has that seed + k."""
    generation: Generation
    attribution: Attribution
    concurrency: int | None
    """Images that are worked on at a time; three for each worker that is there without it."""
    templates: Sequence[str] | None
    """Prompts with `{class}` in them, each of which is filled in with each class."""
    filters: Filters
    """Which images are rejected; none without it."""


class ImportOptions(TypedDict, total=False):
    """Import tokens from a file: one of ours, a textual inversion, a `.npy`, or a published dict of many."""

    name: str | None
    """the token's name, one in use gets a new version; of a published dict, a prefix of the names of its classes, joined by `-`"""
    model: str | None
    """The model it was learned on; the deployment's default without it."""
    classes: Sequence[str] | None
    """names of the rows of a `.npy`, the background's left out"""


class DatasetClass(TypedDict, total=False):
    """A class: what it is called, and what is looked for to find it."""

    name: Required[str]
    """As prompts and exports name it."""
    target: TokenTarget | WordsTarget | None
    """Words, or a learned token; the name as a word without it."""
    label: int | None
    """Of its pixels, such as Pascal VOC's 7 for a car; its place among the classes, from 1, without it."""


Target = EmbeddingTarget | TokenTarget | WordsTarget
