"""A worker without a model: it publishes cards and ends jobs by the real ledger and store."""

import json
from dataclasses import dataclass
from typing import Literal

from redis.asyncio import Redis
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from contracts.schema.attribute import AttributeJob, AttributeResult, Segment
from contracts.schema.errors import Code, Failure
from contracts.schema.fields import Artifact, Rle
from contracts.schema.images import BlockInfo, GeneratedImage, GenerateJob, ImageJob, ImagesResult
from contracts.schema.jobs import AnyResult, JobRecord, Progress, new_job_id, utc_now
from contracts.schema.models import ModelCard
from contracts.schema.optimize import OptimizeJob, OptimizeResult
from contracts.schema.previews import Preview
from contracts.schema.probe import ProbeJob, ProbeResult, RankedWord
from contracts.schema.tokens import ImportJob, ImportResult, TokenFacts
from contracts.state import keys
from contracts.state.ledger import Ledger
from contracts.state.registry import NewToken, enter, numbered
from contracts.state.store import ArtifactStore, File
from ovam.core.confidence import Confidence

START, END = "<|startoftext|>", "<|endoftext|>"
IMAGE = bytes(range(256)) * 8


def letters() -> Tokenizer:
    """A tokenizer with a token for each letter, and a start and an end mark as CLIP has."""
    vocabulary = {piece: number for number, piece in enumerate([*map(chr, range(33, 0x250)), START, END])}
    tokenizer = Tokenizer(BPE(vocabulary, [], unk_token=END))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([START, END])
    marks = [(START, vocabulary[START]), (END, vocabulary[END])]
    tokenizer.post_processor = TemplateProcessing(single=f"{START} $A {END}", special_tokens=marks)
    return tokenizer


def card(name: str = "tiny", *, default: bool = True) -> ModelCard:
    return ModelCard(
        name=name,
        source="nowhere",
        default_keep="queries",
        family="sd1",
        text_width=8,
        max_tokens=40,
        default_height=64,
        default_width=48,
        size_multiple=16,
        default_guidance_scale=5.0,
        default_scheduler="DDIMScheduler",
        schedulers=["DDIMScheduler", "EulerDiscreteScheduler"],
        blocks=[
            BlockInfo(name="down_blocks.0.attentions.0.transformer_blocks.0.attn2", grid=(8, 6), heads=2),
            BlockInfo(name="mid_block.attentions.0.transformer_blocks.0.attn2", grid=(4, 3), heads=4),
            BlockInfo(name="up_blocks.0.attentions.0.transformer_blocks.0.attn2", grid=(4, 3), heads=3),
        ],
        default=default,
    )


def token(name: str, model: str = "tiny", classes: tuple[str, ...] = ("car",)) -> NewToken:
    facts = TokenFacts(
        id=f"{new_job_id()}-1-0",
        model=model,
        width=8,
        classes=list(classes),
        origin="optimize",
        job_id="1" * 26,
        created_at=utc_now(),
    )
    return NewToken(name, facts)


@dataclass(frozen=True)
class InTestWorker:
    redis: Redis
    store: ArtifactStore

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.redis)

    async def publish(self, *cards: ModelCard) -> None:
        for each in cards:
            await self.redis.hset(keys.MODELS, each.name, each.model_dump_json())
            await self.redis.hset(keys.TOKENIZERS, each.name, letters().to_str())
        await self.redis.set(keys.worker("in-test"), json.dumps({"name": "in-test"}), ex=60)

    async def publish_token(self, *found: NewToken) -> None:
        """Enter tokens as the end of their job would, with files that say which they are of."""
        async with self.redis.pipeline() as pipe:
            await pipe.watch(keys.TOKENS)
            cards = await numbered(pipe, found)
            pipe.multi()
            enter(pipe, cards)
            await pipe.execute()
        for card in cards:
            for form in keys.TOKEN_FILES:
                await self.store.put(keys.token_object(card.id, form), f"{form} of {card.reference}".encode())

    async def claim(self, job_id: str) -> JobRecord:
        return await self.ledger.claim(job_id, max_attempts=3)

    async def begin(self, job_id: str) -> JobRecord:
        return await self.ledger.begin(job_id, (await self.claim(job_id)).attempt)

    async def step(self, job_id: str, done: int) -> None:
        await self.ledger.report(job_id, 1, Progress(done=done, total=3, unit="step"))

    async def show(self, job_id: str, preview: Preview, instead_of: str | None = None) -> str:
        progress = Progress(done=preview.evaluation, total=3, unit="step", preview=preview)
        return await self.ledger.show(job_id, 1, progress, instead_of=instead_of)

    async def end(self, job_id: str) -> JobRecord:
        """End a job well, begun or not."""
        record = await self.ledger.get(job_id)
        if record.attempt == 0:
            record = await self.begin(job_id)
        learned = [token("car")] if record.kind in ("optimize", "import") else []
        return await self.ledger.succeed(job_id, record.attempt, await self.result(record), tokens=learned)

    async def keep(self, job_id: str) -> JobRecord:
        """End an optimize job that runs and was canceled, with the token it has so far."""
        record = await self.ledger.get(job_id)
        result = await self.learned(record, ended="canceled")
        return await self.ledger.canceled(job_id, record.attempt, result, tokens=[token("car")])

    async def fail(self, job_id: str, detail: str) -> None:
        record = await self.begin(job_id)
        await self.ledger.fail(job_id, record.attempt, Failure(code=Code.OUT_OF_MEMORY, detail=detail))

    async def result(self, record: JobRecord) -> AnyResult:
        match record.request:
            case GenerateJob() | ImageJob() as job:
                return await self.images(record, job)
            case AttributeJob() as job:
                return await self.segments(record, job)
            case ProbeJob() as job:
                words = [RankedWord(word=word, attention=0.5, fraction=0.5, gain=0.1, lift=2.0) for word in job.words]
                return ProbeResult(model=job.model, prompt=job.prompt, words=words)
            case OptimizeJob():
                return await self.learned(record, ended="epochs")
            case ImportJob() as job:
                return ImportResult(model=job.model, width=8, tokens=["car"])

    async def images(self, record: JobRecord, job: GenerateJob | ImageJob) -> ImagesResult:
        count, steps, scale, scheduler = 1, 9, 1.0, "DDIMScheduler"
        if isinstance(job, GenerateJob):
            count, steps, scale, scheduler = job.num_images, job.num_inference_steps, job.guidance_scale, job.scheduler
        names = [f"image-{index}.png" for index in range(count)]
        files = [*(File(name, "image/png", IMAGE) for name in names), File("empty.npy", "application/octet-stream", b"")]
        stored = await self.store.commit(record.id, record.attempt, files)
        return ImagesResult(
            kind=job.kind,
            model=job.model,
            height=job.height,
            width=job.width,
            num_inference_steps=steps,
            guidance_scale=scale,
            scheduler=scheduler,
            evaluations=steps,
            timesteps=[float(step) for step in range(steps)],
            blocks=card().blocks,
            keep=job.capture.keep,
            self_attention=job.capture.self_attention,
            images=[
                GeneratedImage(
                    index=index, seed=job.seed + index, image=stored[name], trace_bytes=1, segments=segments_of(job, stored[name])
                )
                for index, name in enumerate(names)
            ],
        )

    async def segments(self, record: JobRecord, job: AttributeJob) -> AttributeResult:
        stored = (await self.store.commit(record.id, record.attempt, [File("mask-0.png", "image/png", IMAGE)]))["mask-0.png"]
        return AttributeResult(model=job.model, height=64, width=48, segments=segments_of(job, stored))

    async def learned(self, record: JobRecord, ended: Literal["epochs", "canceled"]) -> OptimizeResult:
        artifact = (await self.store.commit(record.id, record.attempt, [File("curve.png", "image/png", IMAGE)]))["curve.png"]
        return OptimizeResult(
            token="car",
            model="tiny",
            width=8,
            classes=["car"],
            epochs=3,
            best_epoch=2,
            best_loss=0.5,
            ended=ended,
            example_iou=0.5,
            losses=[0.7, 0.6, 0.5],
            curve=artifact,
            curve_json=artifact,
        )


def segments_of(job: GenerateJob | ImageJob | AttributeJob, file: Artifact) -> list[Segment]:
    """A segment of one pixel for every target."""
    region = {"area": 1, "bbox": (0, 0, 1, 1), "rle": Rle(size=(64, 48), counts="01oo2"), "polygons": [[0.0] * 6]}
    files = dict.fromkeys(("heatmap", "heatmap_npy", "mask", "overlay"), file)
    targets = [] if isinstance(job, ImageJob) else job.targets
    sure = {} if isinstance(job, ImageJob) or not job.confidence else {"confidence": Confidence(0.75, 0.75, calibrated=False)}
    return [Segment(**region, **files, **sure, **dict(target), score=1.0) for target in targets]
