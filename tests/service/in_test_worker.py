"""A worker without a model: it publishes cards and ends jobs by the real ledger and store."""

import json
from dataclasses import dataclass

from redis.asyncio import Redis
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from contracts import keys
from contracts.attribution import AttributeResult, MethodCard
from contracts.errors import Code, Failure
from contracts.generation import BlockInfo, GeneratedImage, GenerateRequest, GenerateResult, ImageRequest
from contracts.jobs import JobRecord, Progress, new_job_id, utc_now
from contracts.ledger import Ledger
from contracts.models import ModelCard
from contracts.optimization import OptimizeResult
from contracts.probing import ProbeRequest, ProbeResult
from contracts.registry import NewToken, enter, numbered
from contracts.store import ArtifactStore, File
from contracts.tokens import TokenFacts
from service import examples

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
        methods = {method["name"]: MethodCard.model_validate(method).model_dump_json() for method in examples.METHODS}
        await self.redis.hset(keys.METHODS, mapping=methods)
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

    async def begin(self, job_id: str) -> JobRecord:
        return await self.ledger.claim(job_id, max_attempts=3)

    async def step(self, job_id: str, done: int) -> None:
        await self.ledger.report(job_id, 1, Progress(done=done, total=3, unit="step"))

    async def end(self, job_id: str) -> JobRecord:
        """End a job well, begun or not."""
        record = await self.ledger.get(job_id)
        if record.attempt == 0:
            record = await self.begin(job_id)
        return await self.ledger.succeed(job_id, record.attempt, await self.result(record))

    async def keep(self, job_id: str) -> JobRecord:
        """End an optimize job that runs and was canceled, with the token it has so far."""
        record = await self.ledger.get(job_id)
        artifact = (await self.store.commit(job_id, record.attempt, [File("curve.png", "image/png", IMAGE)]))["curve.png"]
        result = OptimizeResult(
            token="car",
            model="tiny",
            width=8,
            classes=["car"],
            epochs=3,
            best_epoch=2,
            best_loss=0.5,
            ended="canceled",
            example_iou=0.5,
            losses=[0.7, 0.6, 0.5],
            curve=artifact,
            curve_json=artifact,
        )
        return await self.ledger.canceled(job_id, record.attempt, result, tokens=[token("car")])

    async def result(self, record: JobRecord) -> GenerateResult | AttributeResult | ProbeResult | OptimizeResult:
        match record.request:
            case GenerateRequest() as request:
                names = [f"image-{index}.png" for index in range(request.num_images)]
                files = [*(File(name, "image/png", IMAGE) for name in names), File("empty.npy", "application/octet-stream", b"")]
                found = await self.store.commit(record.id, record.attempt, files)
                seed = request.seed or 0
                images = [
                    GeneratedImage(index=index, seed=seed + index, image=found[name], trace_bytes=1)
                    for index, name in enumerate(names)
                ]
                return GenerateResult(
                    model=request.model or "",
                    height=request.height or 0,
                    width=request.width or 0,
                    num_inference_steps=request.num_inference_steps,
                    guidance_scale=request.guidance_scale or 0,
                    evaluations=request.num_inference_steps,
                    blocks=card().blocks,
                    self_attention=bool(request.capture.self_attention),
                    images=images,
                )
            case ImageRequest() as request:
                files = await self.store.commit(record.id, record.attempt, [File("image-0.png", "image/png", IMAGE)])
                return GenerateResult(
                    model=request.model,
                    height=request.height,
                    width=request.width,
                    num_inference_steps=9,
                    guidance_scale=1.0,
                    evaluations=9,
                    blocks=card().blocks,
                    images=[GeneratedImage(index=0, seed=request.seed, image=files["image-0.png"], trace_bytes=1)],
                )
            case ProbeRequest() as request:
                return ProbeResult(model="tiny", prompt=request.attribution_prompt, words=[])
            case _:
                return AttributeResult(model="tiny", height=64, width=48, segments=[])

    async def fail(self, job_id: str, detail: str) -> None:
        record = await self.begin(job_id)
        await self.ledger.fail(job_id, record.attempt, Failure(code=Code.OUT_OF_MEMORY, detail=detail))
