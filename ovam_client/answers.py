"""What the service answers.

Written by `python -m tests.client.schemas`; do not edit.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue


class Answer(BaseModel):
    """Base of all answers. Fields that a later service adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


class Webhook(Answer):
    """Whom to tell of a job."""

    url: str
    events: list[Literal["running", "succeeded", "failed", "canceled"] | str]
    """Of which states."""


class Estimate(Answer):
    """What a job was expected to take when it was submitted."""

    memory_bytes: int
    """On the worker's device, at the worst moment."""
    kept_bytes: int
    """Size of its files, which are kept until it expires."""
    work: float
    """How much there is to do, in a unit of the job's kind: two jobs of a kind and a model compare by it."""
    seconds: float | None = None
    """How long it runs, by what such work took lately; null while nobody knows."""


class PreviewMask(Answer):
    """Where a target is so far."""

    label: str
    area: float
    """Share of the image's pixels."""
    mask: str | None
    """White inside: PNG as a `data:` URL, of one bit a pixel, the picture's size. Null while its settings select no evaluation
    that has been made."""


class Preview(Answer):
    """An image so far."""

    image: int
    """Which of the images that were asked for."""
    seed: int
    evaluation: int
    """Evaluations that have been made."""
    evaluations: int
    """Of so many in all."""
    picture: str | None
    """The image as it would become by what the UNet predicts: JPEG as a `data:` URL, at most 128 pixels high and wide. Null for a
    scheduler without a noise level for each timestep."""
    masks: list[PreviewMask]
    """One of each target, by the request's settings applied to the evaluations that have been made, before a dense CRF. The
    last preview has the masks of the result."""


class Progress(Answer):
    """How far a running job is: UNet steps or optimisation epochs."""

    done: int
    total: int
    unit: Literal["step", "evaluation", "epoch"] | str
    loss: float | None = None
    preview: Preview | None = None
    """An image so far, in events of a generate job with targets; records do not keep it."""


class BlockInfo(Answer):
    """A cross-attention block whose queries are kept."""

    name: str
    grid: tuple[int, int]
    """(height, width)."""
    heads: int


class Artifact(Answer):
    """A file of a job."""

    name: str
    media_type: str
    size: int
    """Bytes."""
    sha256: str
    url: str
    """Where to fetch it."""


class Rle(Answer):
    """A mask in COCO's compressed run-length encoding."""

    size: tuple[int, int]
    """(height, width)."""
    counts: str


class Confidence(Answer):
    """How sure a mask is."""

    value: float
    """The IoU with the true mask that is to be expected, 0..1, where that is `calibrated`; else the `agreement`, which orders
    masks by how sure they are but is no IoU to expect."""
    agreement: float
    """Mean IoU of the mask with those of halves of its evaluations, heads and blocks: 1 if all agree, 0 for an empty mask."""
    calibrated: bool
    """Whether agreements of this model, with these very settings, were compared with true masks."""


class Difference(Answer):
    """How a target's heat differs from that in another image, pixel by pixel: this image's less the other's."""

    inside: float | None
    """Its mean on the pixels of either mask; null where there are none."""
    outside: float | None
    """Its mean on the other pixels; null where there are none."""
    total: float
    """The mean of its size, whatever its sign, on all pixels; 0 for equal heat."""
    iou: float
    """Of both masks."""
    npy: Artifact
    """The difference itself, `.npy` of (height, width), float32: signed."""
    picture: Artifact
    """Red where there is more heat than in the other image, blue where there is less, white where as much."""


class CausalChange(Answer):
    """What changed where the image was drawn without the target's word: the mean difference of colours, 0..1."""

    prompt: str
    """What the UNet got from `from_evaluation` on. The image's own if the word is not in it: then nothing changes."""
    inside: float | None
    """In the target's mask; null for an empty one."""
    outside: float | None
    """Elsewhere; null where there is nothing else."""
    image: Artifact
    """The image that was drawn."""
    change: Artifact
    """Each pixel's difference as grey; white is the largest."""


class SplitMaps(Answer):
    """A target's heatmaps, part by part."""

    by: Literal["block", "evaluation", "head"] | str
    parts: list[str]
    """What the maps along the first axis are of: blocks by name, the others by position."""
    terms: list[float]
    """How many attention maps each sums up; with `automatic` aggregation, how much these weigh together."""
    file: Artifact
    """`.npy` of (parts, height, width), float32. Their mean weighted by `terms` (for reduction `sum`: their sum) is the heatmap
    before it is resized to the image."""


class Region(Answer):
    """A connected region of a mask."""

    area: int
    """Pixels."""
    bbox: tuple[int, int, int, int]
    """x, y, width, height; zeros if it is empty."""
    rle: Rle
    polygons: list[list[float]]
    """Outlines as x0, y0, x1, y1, ..."""


class Segment(Answer):
    """Where one target is."""

    area: int
    """Pixels."""
    bbox: tuple[int, int, int, int]
    """x, y, width, height; zeros if it is empty."""
    rle: Rle
    polygons: list[list[float]]
    """Outlines as x0, y0, x1, y1, ..."""
    label: str
    target: dict[str, Any]
    method: str
    """The published method whose settings were taken."""
    settings: dict[str, Any]
    """All settings, as used: sent again, they give the same mask."""
    score: float
    """How sure the mask is: the mean refined heat inside it as a fraction of the hottest pixel's, 0..1."""
    leakage: float | None = None
    """Estimate of how far its heat leaks to the targets that it competes with: 0 told apart, 1 as hot on their places in a map of
    labels as on its own. Null if it competes with no other target, or one of these places is empty."""
    confidence: Confidence | None = None
    """Null unless asked for, or where one attention map is all there is."""
    difference: Difference | None = None
    """From `against`'s image; null without it."""
    causal: CausalChange | None = None
    """Null unless asked for."""
    heatmap: Artifact
    heatmap_npy: Artifact
    refined_npy: Artifact | None = None
    """What the threshold cuts, where that is not the heatmap itself but stretched, spread or weighted heat."""
    mask: Artifact
    overlay: Artifact
    maps: list[SplitMaps] = []
    instances: list[Region] | None = None


class SemanticMap(Answer):
    """Labels of all targets in one picture."""

    map: Artifact
    labels: dict[str, str]
    """The meaning of each label: 0 the background, 255 ambiguous."""
    areas: dict[str, int]
    """Pixels of each label that occurs."""


class GeneratedImage(Answer):
    """One image of a job."""

    index: int
    seed: int
    image: Artifact
    trace_bytes: int
    """Size of what is kept of its attention: its replay, or its queries."""
    segments: list[Segment] = []
    """Of the targets of its generation, as an attribute job has them."""
    semantic: SemanticMap | None = None
    """Of the targets of its generation."""


class UsedAdapter(Answer):
    """The same with nothing left to what the name means later."""

    name: str
    """A LoRA or a textual inversion among the model's `adapters` of GET /v1/models."""
    scale: float = 1.0
    """Of a LoRA; a textual inversion takes 1 alone."""
    kind: Literal["lora", "textual-inversion", "controlnet", "ip-adapter"]
    weights: str
    """Hash of its file, 16 hexadecimal digits: a later question needs the same."""


class Rejected(Answer):
    """A seed whose image did not pass the gate."""

    image: int
    """Which of the images that were asked for it was to be."""
    seed: int
    evaluation: int
    """How many evaluations it had when that was decided."""
    area: float
    """The share of the image that the target covered then."""
    reason: Literal["too-small", "too-large"] | str


class ImagesResult(Answer):
    """Images, generated or real, and the settings as they were used."""

    kind: Literal["generate", "image"]
    model: str
    weights: str = ""
    """Hash of its UNet's weights as the worker has them, 16 hexadecimal digits; empty where they could not be hashed."""
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: str
    evaluations: int
    """UNet evaluations whose queries are kept."""
    timesteps: list[float]
    """The diffusion timestep of each of them."""
    blocks: list[BlockInfo]
    keep: Literal["replay", "queries"] | str = "queries"
    """What is kept of their attention. `queries` although a replay was asked for: the generation could not be replayed."""
    self_attention: bool
    """Whether masks of these images can be refined by self-attention."""
    images: list[GeneratedImage]
    adapters: list[UsedAdapter] = []
    """With what the model was changed for these images; a later question about them loads it again."""
    rejected: list[Rejected] = []
    """Seeds whose images did not pass the gate."""


class Appraisal(Answer):
    """What an image as a whole is like."""

    single_colour: bool
    """Whether all its pixels have the same colour."""
    looks: str
    """A difference hash of 64 bits, in hexadecimal digits: images that look the same have the same."""
    clip: list[float] = []
    """CLIP's cosine of the image with each text, -1..1."""
    clip_scale: float | None = None
    """CLIP's own factor of these cosines, before a softmax over texts."""


class Causal(Answer):
    """How the image was drawn again."""

    from_evaluation: int
    """Position of the first UNet evaluation without the words."""
    evaluations: int
    redrawn: float
    """Mean difference, 0..1, of the stored image and the one drawn again with its own prompt, with which the others are compared:
    0 on the same device, unless it was drawn in a batch with others."""


class AttributeResult(Answer):
    """A segment for every target, in the order of the request."""

    kind: Literal["attribute"] = "attribute"
    model: str
    height: int
    width: int
    segments: list[Segment]
    semantic: SemanticMap | None = None
    appraisal: Appraisal | None = None
    causal: Causal | None = None


class RankedWord(Answer):
    """How much a place attends to a word."""

    word: str
    attention: float
    """Mean attention of the place to the word, 0..1."""
    fraction: float
    """Of the attention that all the words get there."""
    gain: float
    """Its attention there less its attention in the whole image; the order is by it."""
    lift: float
    """Its attention there over its attention in the whole image."""


class ProbeResult(Answer):
    """The words, the best first."""

    kind: Literal["probe"] = "probe"
    model: str
    prompt: str
    """The attribution prompt that was used."""
    words: list[RankedWord]


class OptimizeResult(Answer):
    """The token that was learned."""

    kind: Literal["optimize"] = "optimize"
    token: str
    """Name and version, as they were then."""
    model: str
    width: int
    """Of the embedding."""
    classes: list[str]
    epochs: int
    """Epochs run."""
    best_epoch: int
    best_loss: float
    ended: Literal["epochs", "plateau", "canceled", "diverged"] | str
    """Why it ended."""
    example_iou: float
    """Mean IoU of the token's masks on its own examples."""
    losses: list[float]
    curve: Artifact
    """The loss curve as PNG."""
    curve_json: Artifact
    """Loss and learning rate of every epoch."""


class ImportResult(Answer):
    """The tokens that were read from the file."""

    kind: Literal["import"] = "import"
    model: str
    width: int
    tokens: list[str]
    """Names with versions, as they were then."""


class StoredResult(Answer):
    """A result that is too large for a record."""

    size: int
    """Bytes of its JSON."""
    files: int
    """Bytes of the files that it names."""


class Code(StrEnum):
    """The codes of every problem a client can meet."""

    UNAUTHENTICATED = "unauthenticated"
    SCOPE_MISSING = "scope-missing"
    RATE_LIMITED = "rate-limited"
    QUEUE_LIMIT_REACHED = "queue-limit-reached"
    DEVICE_LIMIT_REACHED = "device-limit-reached"
    STORAGE_LIMIT_REACHED = "storage-limit-reached"
    INVALID_JSON = "invalid-json"
    INVALID_REQUEST = "invalid-request"
    BODY_TOO_LARGE = "body-too-large"
    BODY_TOO_SLOW = "body-too-slow"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    HOST_NOT_ALLOWED = "host-not-allowed"
    ORIGIN_NOT_ALLOWED = "origin-not-allowed"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    RANGE_NOT_SATISFIABLE = "range-not-satisfiable"
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused"
    IDEMPOTENCY_KEY_IN_FLIGHT = "idempotency-key-in-flight"
    INVALID_ARGUMENT = "invalid-argument"
    UNKNOWN_MODEL = "unknown-model"
    UNKNOWN_ADAPTER = "unknown-adapter"
    UNKNOWN_METHOD = "unknown-method"
    UNKNOWN_TOKEN = "unknown-token"
    UNKNOWN_JOB = "unknown-job"
    UNKNOWN_ARTIFACT = "unknown-artifact"
    UNKNOWN_DATASET = "unknown-dataset"
    JOB_EXPIRED = "job-expired"
    JOB_NOT_FINISHED = "job-not-finished"
    JOB_NOT_SUCCESSFUL = "job-not-successful"
    JOB_FINISHED = "job-finished"
    WRONG_JOB_KIND = "wrong-job-kind"
    IMAGE_INDEX_OUT_OF_RANGE = "image-index-out-of-range"
    UNKNOWN_SCHEDULER = "unknown-scheduler"
    UNKNOWN_CLASS = "unknown-class"
    TOKEN_EXISTS = "token-exists"
    TOKEN_OF_OTHER_MODEL = "token-of-other-model"
    ADAPTER_UNFIT = "adapter-unfit"
    TOKEN_OF_OTHER_FAMILY = "token-of-other-family"
    ATTENTION_UNAVAILABLE = "attention-unavailable"
    EXAMPLES_OF_OTHER_MODELS = "examples-of-other-models"
    WORD_NOT_IN_PROMPT = "word-not-in-prompt"
    PROMPT_TOO_LONG = "prompt-too-long"
    SIZE_NOT_DIVISIBLE = "size-not-divisible"
    SIZE_TOO_LARGE = "size-too-large"
    TOO_MANY_STEPS = "too-many-steps"
    TOO_MANY_IMAGES = "too-many-images"
    JOB_TOO_LARGE = "job-too-large"
    MASK_NOT_AN_IMAGE = "mask-not-an-image"
    MASK_UNREADABLE = "mask-unreadable"
    MASK_EMPTY = "mask-empty"
    MASK_FULL = "mask-full"
    MASK_UNUSABLE = "mask-unusable"
    SELECTION_INVALID = "selection-invalid"
    SETTINGS_CONTRADICT = "settings-contradict"
    NO_SELF_ATTENTION = "no-self-attention"
    NO_CLIP = "no-clip"
    NO_FEATURES = "no-features"
    NO_CONTRIBUTIONS = "no-contributions"
    NO_NETWORK = "no-network"
    NETWORK_OF_OTHER_MODEL = "network-of-other-model"
    NETWORK_FILE_UNREADABLE = "network-file-unreadable"
    CLASS_NOT_TRAINED = "class-not-trained"
    EMBEDDING_OF_OTHER_WIDTH = "embedding-of-other-width"
    EMBEDDING_NOT_FINITE = "embedding-not-finite"
    OPTIMIZATION_FAILED = "optimization-failed"
    GATE_NOT_PASSED = "gate-not-passed"
    REGION_OUTSIDE_IMAGE = "region-outside-image"
    IMAGE_UNREADABLE = "image-unreadable"
    IMAGE_TOO_LARGE = "image-too-large"
    IMAGE_UNSUPPORTED = "image-unsupported"
    TOKEN_FILE_UNREADABLE = "token-file-unreadable"
    TOKEN_FILE_UNSAFE = "token-file-unsafe"
    QUEUE_FULL = "queue-full"
    GATEWAY_BUSY = "gateway-busy"
    NO_WORKER = "no-worker"
    REDIS_UNAVAILABLE = "redis-unavailable"
    STORE_UNAVAILABLE = "store-unavailable"
    WORKER_DIED = "worker-died"
    DEADLINE_PASSED = "deadline-passed"
    RESULT_TOO_LARGE = "result-too-large"
    OUT_OF_MEMORY = "out-of-memory"
    PACKAGE_MISSING = "package-missing"
    MODEL_FAILED_TO_LOAD = "model-failed-to-load"
    MODEL_UNSUPPORTED = "model-unsupported"
    MODEL_COMPILED = "model-compiled"
    CAPTURE_FAILED = "capture-failed"
    NOT_REPLAYABLE = "not-replayable"
    TRACE_UNREADABLE = "trace-unreadable"
    TRACE_MISMATCH = "trace-mismatch"
    INTERNAL_ERROR = "internal-error"


class Failure(Answer):
    """Why a job failed, as kept in its record."""

    code: Code | str
    detail: str
    field: str | None = None
    value: JsonValue = None


class JobRecord(Answer):
    """A job. Once it is final there is an `error` or a `result`, never both; a canceled one has a result if it kept something.

    One that was canceled by its deadline, and kept nothing, has the error `deadline-passed`.
    """

    id: str
    tenant: str = ""
    """Whose it is; empty without API keys."""
    kind: Literal["generate", "image", "attribute", "probe", "optimize", "import"] | str
    state: State | str
    priority: Literal["interactive", "normal", "bulk"] | str = "normal"
    deadline: datetime | None = None
    """When it is canceled, if it has not ended by then; null: never."""
    webhook: Webhook | None = None
    """Whom to tell when it comes into a state."""
    request: dict[str, Any] | None
    """What is done: the request with everything filled in that it left open. `null` when it is larger than 64 KiB, as with many
    masks or a token's file: it is then kept in the artifact store, for as long as the job's files."""
    estimate: Estimate | None = None
    """What it was expected to take; null when its model says too little of itself."""
    created_at: datetime
    estimated_start: datetime | None = None
    """When a worker takes it, by how many wait before it and how fast its lane moves; null if it does not wait, or nobody
    knows."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime
    attempt: int = 0
    """How many workers have taken it."""
    deaths: int = 0
    """How many of them died while it was on their device."""
    tries: int = 0
    """How often it was put back because its store failed."""
    retry_at: datetime | None = None
    """When it is tried again, after that; until then it waits."""
    attempts_before: int = 0
    """How many of its attempts do not count any more, since it was requeued after it had been given up."""
    claimed: bool = False
    """Whether a worker has taken it; a job that waits for its worker's device is still `queued`."""
    cancel_requested: bool = False
    request_id: str | None = None
    """The `X-Request-Id` of the request that filed it, which logs of gateway and worker name."""
    traceparent: str | None = None
    """The span that filed it (W3C Trace Context): the worker's spans are its children."""
    progress: Progress | None = None
    result: ImagesResult | AttributeResult | ProbeResult | OptimizeResult | ImportResult | dict[str, Any] | None = None
    stored_result: StoredResult | None = None
    """Of a result of more than 64 KiB, which is kept with the job's files and put into the record when it is read."""
    error: Failure | None = None


class JobSummary(Answer):
    """A job without its request and its result."""

    id: str
    kind: Literal["generate", "image", "attribute", "probe", "optimize", "import"] | str
    state: State | str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime
    attempt: int
    progress: Progress | None = None
    error: Failure | None = None


class JobList(Answer):
    """A page of jobs, newest first. With `kind` or `state` it may have fewer than `limit` although there is a `next` one."""

    jobs: list[JobSummary]
    next: str | None
    """`cursor` of the next page; null on the last"""


class TokenExample(Answer):
    """Where a token was learned."""

    job_id: str
    image: int


class TokenListing(Answer):
    """The newest version of a name."""

    id: str
    """The same for ever, whatever the token is called."""
    model: str
    width: int
    family: str | None = None
    """The family of models that it fits, by how their attention is read: `unet`, `sd3`, ...; null where that is not known."""
    classes: list[str]
    """What its rows stand for; a row of their own for the background comes before them."""
    origin: Literal["optimize", "import"] | str
    examples: list[TokenExample] = []
    settings: dict[str, Any] = {}
    """How it was learned, as the request can say it again."""
    epochs: int | None = None
    best_epoch: int | None = None
    best_loss: float | None = None
    example_iou: float | None = None
    """Mean IoU of the token's masks on its own examples."""
    job_id: str
    created_at: datetime
    name: str
    version: int
    versions: int
    """How many versions the name has."""


class TokenList(Answer):
    """A page of learned tokens: the newest version of every name."""

    tokens: list[TokenListing]
    next: str | None
    """`cursor` of the next page; null on the last"""


class TokenCard(Answer):
    """A version of a token: class rows with their own background row, valid together only."""

    id: str
    """The same for ever, whatever the token is called."""
    model: str
    width: int
    family: str | None = None
    """The family of models that it fits, by how their attention is read: `unet`, `sd3`, ...; null where that is not known."""
    classes: list[str]
    """What its rows stand for; a row of their own for the background comes before them."""
    origin: Literal["optimize", "import"] | str
    examples: list[TokenExample] = []
    settings: dict[str, Any] = {}
    """How it was learned, as the request can say it again."""
    epochs: int | None = None
    best_epoch: int | None = None
    best_loss: float | None = None
    example_iou: float | None = None
    """Mean IoU of the token's masks on its own examples."""
    job_id: str
    created_at: datetime
    name: str
    version: int


class VersionList(Answer):
    """Every version of a token, the newest first."""

    versions: list[TokenCard]


class BestMethod(Answer):
    """A method and what is changed of its settings."""

    method: Literal["ovam", "daam", "attn2mask", "grounded-diffusion", "datasetdm", "datasetdm-published"] | str = "ovam"
    settings: dict[str, Any] = {}


class Calibration(Answer):
    """What IoU with the true mask to expect at an agreement: lines between points that rise, level before and after them."""

    agreement: list[float]
    """Of the points, rising."""
    iou: list[float]
    """Expected there, never falling."""


class MaskCalibration(Answer):
    """What IoU to expect of masks, measured for one way to find them."""

    images: Literal["generate", "image"] | str
    """The kind of job whose images were measured: generated ones, or real ones."""
    targets: Literal["words", "tokens"] | str
    settings: dict[str, Any]
    """All settings: with others, nothing is known."""
    calibration: Calibration


class AdapterCard(Answer):
    """An adapter that workers have for a model."""

    name: str
    kind: Literal["lora", "textual-inversion", "controlnet", "ip-adapter"]
    weights: str
    """Hash of its file, 16 hexadecimal digits."""
    size: int
    """Bytes of its weights; an IP-Adapter's image encoder is among them."""
    token: str | None = None
    """Of a textual inversion: what stands for it in a prompt."""
    vectors: int | None = None
    """Of a textual inversion: how many tokens of a prompt that takes."""


class ModelSizes(Answer):
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
    scheduler_evaluations: dict[str, tuple[int, int]] = {}
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


class ModelCard(Answer):
    """A model that workers serve, with what is needed to check a request for it."""

    name: str
    source: str
    """Hub id or path."""
    family: Literal["sd1", "sd2", "sdxl", "pixart", "sana", "sd3", "flux", "flux2"] | str
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
    schedulers: list[str] = []
    """Diffusers classes that `scheduler` of a generation may name."""
    guidance_embedded: bool = False
    """Whether the UNet takes the guidance scale as an input and has no unconditional branch."""
    attentions: list[Literal["cross", "concept", "joint", "text"] | str] = ["cross"]
    """What `attention` of a setting may name; the first is taken where it is left out."""
    blocks: list[BlockInfo] = []
    """Its cross-attentions, as they are at its default size."""
    default_keep: Literal["replay", "queries"] | str = "replay"
    """What is kept of an image's attention when a request does not say."""
    default_self_attention: bool = False
    """Whether self-attention is kept beside queries when a request does not say."""
    word_defaults: BestMethod = BestMethod()
    """How words are looked for when a request names no method."""
    token_defaults: BestMethod = BestMethod()
    """How learned tokens are looked for when a request names no method."""
    calibrations: list[MaskCalibration] = []
    """What IoU with the true mask to expect of its masks, where `confidence` is asked for."""
    networks: list[str] = []
    """The trained networks that methods may ask for, in `network` of their settings."""
    clip: str | None = None
    """The CLIP model (hub id or path) by which its workers compare images to texts; null: none."""
    can: list[
        Literal[
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
        | str
    ] = []
    """What may be asked of it, beside images of a prompt."""
    cannot: dict[str, str] = {}
    """What is refused of it, named as in `can`: why, for each."""
    adapters: list[AdapterCard] = []
    """What a request may name to change the model for its images."""
    other_adapters: dict[str, str] = {}
    """Adapters that are registered and cannot be used with this model: by name, why."""
    max_clip_skip: int = 0
    """Most of `clip_skip`: layers of its text encoder that can be left out."""
    sizes: ModelSizes | None = None
    """What the cost of a job is estimated from."""
    default: bool = False


class ModelList(Answer):
    """The models that are served."""

    models: list[ModelCard]


class MethodCard(Answer):
    """A published method: its settings for words and for learned tokens."""

    name: str
    source: str
    """Where it was published."""
    words: dict[str, Any]
    tokens: dict[str, Any]


class MethodList(Answer):
    """The published methods."""

    methods: list[MethodCard]


class DatasetState(StrEnum):
    """Where a data set stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class Counts(Answer):
    """How far a data set is, in images. `accepted`, `failed` and those that were rejected add up to `done`.

    Images are rejected for what they compare to others (a share with the lowest scores, percentiles, duplicates) when all are
    done: until then they count as accepted.
    """

    entries: int
    done: int = 0
    accepted: int = 0
    failed: int = 0
    rejected: dict[str, int] = {}
    """By reason: `area`, `clip`, `confidence`, `single-colour`, `duplicate`."""


class DatasetEstimate(Answer):
    """What a data set is expected to take."""

    seconds: float | None = None
    """Until it is done, by how long the jobs of an image took lately and how many workers there are, or by how fast it was so
    far; null while nobody knows."""
    kept_bytes: int | None = None
    """Size of its images and masks, if none were rejected."""


class DatasetRecord(Answer):
    """A data set. It is kept until you delete it."""

    id: str
    tenant: str = ""
    name: str | None = None
    state: DatasetState | str
    counts: Counts
    estimate: DatasetEstimate | None = None
    kept_bytes: int = 0
    """Size of the images and masks that are kept."""
    waits: Failure | None = None
    """Why nothing is started at the moment, such as a limit that is reached; it goes on by itself."""
    error: Failure | None = None
    """Why it failed."""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    request: dict[str, Any]
    """What is done: the request with everything filled in that it left open."""


class DatasetSummary(Answer):
    """A data set without its request."""

    id: str
    tenant: str = ""
    name: str | None = None
    state: DatasetState | str
    counts: Counts
    estimate: DatasetEstimate | None = None
    kept_bytes: int = 0
    """Size of the images and masks that are kept."""
    waits: Failure | None = None
    """Why nothing is started at the moment, such as a limit that is reached; it goes on by itself."""
    error: Failure | None = None
    """Why it failed."""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None


class DatasetList(Answer):
    """A page of data sets, newest first."""

    datasets: list[DatasetSummary]
    next: str | None
    """`cursor` of the next page; null on the last"""


class FieldError(Answer):
    """One field that is wrong: where, why, and what was there."""

    field: str
    """path of the field, e.g. `targets.0.word`"""
    detail: str
    value: JsonValue = None


class Problem(Answer):
    """An RFC 9457 problem. Branch on `code`; read `detail`."""

    type: str
    """where the code is explained: /problems/{code}"""
    title: str
    status: int
    detail: str
    code: Code | str
    instance: str | None = None
    """the path of the request"""
    errors: list[FieldError] = []
    estimate: Estimate | None = None
    """of `job-too-large`: what the job would take"""
    message: str | None = None
    """`detail` as OpenAI's clients look for it; at their address alone"""
    param: str | None = None
    """the first field at fault, likewise"""


class Readiness(Answer):
    """Whether jobs can be taken and run, and what is missing."""

    status: Literal["ready", "not ready"] | str
    checks: dict[str, str]
