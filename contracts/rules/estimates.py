"""What a job will take: memory, files and work, estimated before it is admitted.

Files follow exactly from what is kept; memory is right to about a factor of two, which tells a job that fits from one
that never will. Factors are counted in the modules: how many tensors of that size are alive at the worst moment.
"""

from collections.abc import Sequence
from math import prod
from typing import assert_never

from contracts.rules.adapters import asked_again
from contracts.rules.capabilities import NO_GUIDANCE, Expected, evaluations_of, generated_evaluations, kept_blocks
from contracts.rules.selections import Traced, selected_positions
from contracts.schema.attribute import AttributeJob, FilledQuestion
from contracts.schema.conditions import adapters_of
from contracts.schema.estimates import Estimate, ModelSizes
from contracts.schema.fields import Positions, Split
from contracts.schema.images import FilledCapture, GenerateJob, ImageJob, ImagesResult
from contracts.schema.jobs import AnyJob, uploaded
from contracts.schema.models import ModelCard
from contracts.schema.optimize import OptimizeJob
from contracts.schema.probe import ProbeJob
from contracts.schema.tokens import ImportJob
from ovam.core.methods import Method
from ovam.core.selection import select_positions
from ovam.errors import SelectionError

STORED = {"float16": 2, "bfloat16": 2, "int8": 1}  # bytes of a number of stored queries
REPLAY_HEAD = 5_000  # bytes of a replay's header: layers and checksums
FLOAT = 4  # bytes of a number in a heatmap, and in an optimisation
PNG_PIXEL = 2  # bytes of a coloured pixel, about: three before compression
UNET_TENSORS = 24  # skip connections, the feed-forward's inner rows (8), what an up block concatenates and convolves
VAE_TENSORS = 8  # the decoder's last blocks hold about four maps of twice its channels
CONTROL = 0.4  # of an evaluation: a ControlNet is the half of a UNet that goes down
SURELY = 1.15  # times the work of an attribution whose confidence is not asked
MAPS = 7  # of a target whose confidence is asked: the whole and its halves
GRAPH = 3  # an optimisation keeps each score, its softmax and their gradients
CURVE_BYTES, EPOCH_BYTES = 20_000, 60
PASS = 2 << 30  # bytes that a pass may take in which attention is computed again, see `ovam.tracing.replay`
MEGA = 1e6

Size = tuple[int, int]


def estimate(job: AnyJob, card: ModelCard, sources: Sequence[ImagesResult] = ()) -> Estimate | None:
    """What a job takes; `sources` are the images that it is about, one result an example. None for a card without sizes."""
    sizes = card.sizes
    if sizes is None:
        return None
    match job:
        case GenerateJob():
            found = of_generation(job, card, sizes)
        case ImageJob():
            found = of_real_image(job, card, sizes)
        case AttributeJob():
            found = of_attribution(job, card, sizes, sources)
        case ProbeJob():
            trace = trace_bytes(sources[0], job.image, sizes)
            memory = weights(sizes) + in_question(trace, sources[0], sizes)
            found = Estimate(memory_bytes=memory, kept_bytes=0, work=trace / MEGA)
        case OptimizeJob():
            found = of_optimization(job, card, sizes, sources)
        case ImportJob():
            file = len(job.file) * 3 // 4  # base64; kept in three forms
            found = Estimate(memory_bytes=weights(sizes), kept_bytes=len(job.file) + 3 * file, work=file / MEGA)
        case _ as never:
            assert_never(never)
    return found.model_copy(update={"memory_bytes": found.memory_bytes + loaded(job, card, sources)})


def of_generation(job: GenerateJob, card: ModelCard, sizes: ModelSizes) -> Estimate:
    """Images and their traces. A batch's traces are on the device until it is drawn; all of the job's are then in memory.

    Targets are looked for in a copy of one image's trace. Seeds that a gate may reject count as if it rejected all it can.
    """
    size, batch = (job.height, job.width), min(job.num_images, sizes.batch_images)
    evaluations = generated_evaluations(job, card)
    capture = job.capture if job.control is None else job.capture.model_copy(update={"keep": "queries"})  # no replay has it
    numbers = trace_numbers(capture, card, sizes, size, evaluations)
    branches = 1 if card.guidance_embedded or job.guidance_scale <= NO_GUIDANCE else 2
    memory = weights(sizes) + drawing(card, sizes, size, batch, batch * branches) + batch * numbers * sizes.number_bytes
    if sizes.on_cpu:
        memory += job.num_images * numbers * in_memory(capture, sizes)
    image = stored(capture, numbers, card, sizes, size, evaluations, branches) + prod(size) * PNG_PIXEL
    if job.targets:
        more, files = of_targets(job, Expected.of(job, card))
        asked = numbers * sizes.number_bytes or min(PASS, evaluations * of_evaluation(size, sizes))
        memory, image = memory + asked + more, image + files
    tries = 1 if job.gate is None or job.gate.on_fail == "stop" else 1 + job.gate.at * (job.gate.seeds - 1)
    work = job.num_images * evaluations * branches * prod(size) / MEGA * tries
    work *= 1 if job.control is None else 1 + CONTROL
    return Estimate(memory_bytes=memory, kept_bytes=job.num_images * image + uploaded(job), work=work)


def of_real_image(job: ImageJob, card: ModelCard, sizes: ModelSizes) -> Estimate:
    """One image, whose file is kept as it came, too."""
    size, evaluations = (job.height, job.width), evaluations_of(job)
    numbers = trace_numbers(job.capture, card, sizes, size, evaluations)
    memory = weights(sizes) + drawing(card, sizes, size, 1, 1) + numbers * sizes.number_bytes
    if sizes.on_cpu:
        memory += numbers * in_memory(job.capture, sizes)
    kept = stored(job.capture, numbers, card, sizes, size, evaluations) + prod(size) * PNG_PIXEL + uploaded(job)
    return Estimate(memory_bytes=memory, kept_bytes=kept, work=evaluations * prod(size) / MEGA)


def of_attribution(job: AttributeJob, card: ModelCard, sizes: ModelSizes, sources: Sequence[ImagesResult]) -> Estimate:
    """Heatmaps, masks and overlays of every target, the maps of parts that are asked for, and what they are compared with.

    The work of a job that draws its image again is that of drawing.
    """
    images, others = sources[0], sources[1:]
    pixels, trace, targets = images.height * images.width, trace_bytes(images, job.image, sizes), len(job.targets)
    memory, kept = of_targets(job, images)
    work = (trace / MEGA * (1 + targets / 16) + targets * pixels / MEGA) * (SURELY if job.confidence else 1)
    traces = [trace, *(trace_bytes(each, job.against_image, sizes) for each in others)]
    memory, kept, work = memory * len(sources), kept + len(others) * targets * pixels * (FLOAT + PNG_PIXEL), work * len(sources)
    memory += weights(sizes) + sum(in_question(each, its, sizes) for each, its in zip(traces, sources, strict=True))
    if job.causal:
        branches = 1 if card.guidance_embedded or images.guidance_scale <= NO_GUIDANCE else 2
        memory += drawing(card, sizes, (images.height, images.width), 1, branches)
        kept += targets * pixels * 2 * PNG_PIXEL
        work = (1 + targets) * images.num_inference_steps * branches * pixels / MEGA
    return Estimate(memory_bytes=memory, kept_bytes=kept, work=work)


def of_targets(job: FilledQuestion, images: Traced) -> tuple[int, int]:
    """Bytes of the targets' heat while it is computed, and of the files of one image's targets."""
    pixels, targets = images.height * images.width, len(job.targets)
    arrays = sum(1 + is_refined(each.settings) for each in job.targets)
    kept = arrays * pixels * FLOAT + targets * pixels * PNG_PIXEL
    kept += targets * sum(parts_of(by, images) for by in job.maps) * grid_pixels(images) * FLOAT
    maps = 3 + (MAPS if job.confidence else 0)
    return maps * (targets + len(job.distractors)) * pixels * FLOAT, kept


def of_optimization(job: OptimizeJob, card: ModelCard, sizes: ModelSizes, sources: Sequence[ImagesResult]) -> Estimate:
    """All traces in single precision, with the scores of every row of the token."""
    traces = [trace_bytes(images, example.image, sizes) for images, example in zip(sources, job.examples, strict=True)]
    rows, width = 1 + len(job.classes), max(1, min_head_width(card, sizes))
    numbers = sum(traces) // STORED["float16"]
    memory = weights(sizes) + numbers * FLOAT + GRAPH * numbers * rows * FLOAT // width
    if card.joint:  # each example's evaluations one after the other
        memory = weights(sizes) + 2 * sum(in_question(one, its, sizes) for one, its in zip(traces, sources, strict=True))
    kept = CURVE_BYTES + EPOCH_BYTES * job.epochs + 3 * rows * card.text_width * FLOAT
    return Estimate(memory_bytes=memory, kept_bytes=kept, work=job.epochs * sum(traces) / MEGA)


def weights(sizes: ModelSizes) -> int:
    """Bytes of a model on the device."""
    return sizes.parameters * sizes.number_bytes


def loaded(job: AnyJob, card: ModelCard, sources: Sequence[ImagesResult]) -> int:
    """Bytes of adapters, which are beside the model while it draws with them, and while its attention is computed again."""
    again = isinstance(job, AttributeJob) and job.causal is not None
    uses = adapters_of(job) if isinstance(job, GenerateJob) else []
    uses += [use for each in sources for use in (each.adapters if again else asked_again(each))]
    names = {use.name for use in uses}
    return sum(each.size for each in card.adapters if each.name in names)


def drawing(card: ModelCard, sizes: ModelSizes, size: Size, images: int, rows: int) -> int:
    """Bytes that evaluations of the UNet (on so many rows), or then the decoder, take at the worst moment."""
    unet = rows * of_evaluation(size, sizes)
    decoder_bytes = FLOAT if card.family == "sdxl" else sizes.number_bytes  # SDXL decodes in single precision
    return max(unet, images * prod(size) * sizes.vae_channels * VAE_TENSORS * decoder_bytes)


def of_evaluation(size: Size, sizes: ModelSizes) -> int:
    """Bytes that an evaluation takes besides weights."""
    return prod(size) // sizes.latent_factor**2 * sizes.unet_channels * UNET_TENSORS * sizes.number_bytes


def in_question(trace: int, images: ImagesResult, sizes: ModelSizes) -> int:
    """Bytes of memory that a trace of so many takes in a question; one that is computed when asked for, of a pass at a time."""
    if sizes.channels:
        return 2 * trace
    return min(trace, max(PASS, of_evaluation((images.height, images.width), sizes)))


def trace_numbers(capture: FilledCapture, card: ModelCard, sizes: ModelSizes, size: Size, evaluations: int) -> int:
    """How many numbers the trace of an image has. Raises selection-invalid for blocks or heads that are not there."""
    kept = 0
    for block in kept_blocks(capture, card, size):
        heads = len(selected_positions(capture.heads, block.heads, field="capture.heads"))
        kept += prod(block.grid) * sizes.channels.get(block.name, 0) * heads // block.heads
    if capture.self_attention:
        pixels = prod(size) // (sizes.latent_factor << sizes.self_attention_level) ** 2
        kept += 2 * pixels * sum(sizes.self_attention.values())  # queries and keys
    return kept * positions(capture.evaluations, evaluations)


def stored(  # all that its size depends on
    capture: FilledCapture, numbers: int, card: ModelCard, sizes: ModelSizes, size: Size, evaluations: int, halves: int = 1
) -> int:
    """Bytes of what is stored of an image's attention: so many numbers of its queries, or its replay, with all halves' texts."""
    if capture.keep == "queries":
        return numbers * STORED[capture.precision or "float16"]
    latent = prod(size) // sizes.latent_factor**2 + size[1] // sizes.latent_factor  # the input, and a line of the prediction
    each = latent * sizes.latent_channels * sizes.number_bytes
    texts = (1 if card.joint else halves) * (sizes.text_rows or card.max_tokens) * card.text_width * sizes.number_bytes
    return each * positions(capture.evaluations, evaluations) + texts + REPLAY_HEAD


def in_memory(capture: FilledCapture, sizes: ModelSizes) -> int:
    """Bytes of a number of a trace that is kept in memory for the next question."""
    return sizes.number_bytes if capture.keep == "replay" else STORED["float16"]


def positions(selection: Positions, count: int) -> int:
    """How many of `count` positions are selected; all of them where the selection does not fit, which the job will say."""
    try:
        return len(select_positions(selection, count, "evaluations"))
    except SelectionError:
        return count


def trace_bytes(images: ImagesResult, image: int, sizes: ModelSizes) -> int:
    """Size of the trace of an image: as it is stored, or as its replay computes it; of some models, of their evaluations."""
    if images.keep == "queries":
        return images.images[image].trace_bytes
    if not sizes.channels:
        return images.evaluations * of_evaluation((images.height, images.width), sizes)
    numbers = sum(prod(block.grid) * sizes.channels.get(block.name, 0) for block in images.blocks)
    return numbers * images.evaluations * sizes.number_bytes


def is_refined(method: Method) -> bool:
    """Whether the threshold cuts something else than the heatmap, which is then kept, too."""
    return method.refine.kind != "none" or getattr(method.threshold, "normalize", None) == "minmax"


def parts_of(by: Split, images: Traced) -> int:
    """How many maps there are of a target, part by part."""
    match by:
        case "block":
            return len(images.blocks)
        case "evaluation":
            return images.evaluations
        case "head":
            return max((block.heads for block in images.blocks), default=0)


def grid_pixels(images: Traced) -> int:
    """Pixels of the largest grid."""
    return max((prod(block.grid) for block in images.blocks), default=0)


def min_head_width(card: ModelCard, sizes: ModelSizes) -> int:
    """Numbers of a query in the narrowest head: where scores weigh most beside the queries."""
    return min((sizes.channels.get(block.name, 0) // block.heads for block in card.blocks), default=1)
