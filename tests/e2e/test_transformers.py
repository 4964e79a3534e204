"""Diffusion transformers over HTTP: a worker serves one of each family, and what a family cannot is refused with the reason."""

import json
from collections.abc import AsyncIterator
from io import BytesIO

import httpx2
import numpy as np
import pytest
import pytest_asyncio
import torch

import ovam
from contracts.rules.estimates import stored
from contracts.schema.images import GenerateJob
from contracts.schema.jobs import JobRecord
from contracts.schema.models import ModelCard
from tests.diffusion_transformers import draw, tiny_transformer
from tests.e2e.steering import done, encoded, picture, pixels, saved_lora, saved_models, saved_transformer_lora, steered
from tests.service.serving import Json, assert_problem
from tests.worker.client import base64_mask, left_half
from worker.resources import Resources

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers"),
]
Service = tuple[httpx2.AsyncClient, Resources]
SERVED = ("pixart", "sana", "sd3.5", "flux", "flux2-klein")
STYLED = ("sd3.5", "flux")
PROMPT = "a cat and a dog"
NO_CRF: Json = {"settings": {"crf": None}}  # whose processes take seconds to start
SMALL: Json = {"prompt": PROMPT, "num_inference_steps": 2, "height": 64, "width": 96}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(valkey: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A client of a gateway with a worker behind it, and that worker."""
    folder = tmp_path_factory.mktemp("transformers")
    for name in SERVED:
        tiny_transformer(name).save_pretrained(folder / name)
        (folder / name / "ovam.json").write_text(json.dumps({"default_height": 64, "default_width": 64}))
    models = saved_models(folder, "sd1") | {name: str(folder / name) for name in SERVED}
    adapters = {"style": str(saved_lora("sd1", folder / "style"))}
    adapters |= {f"style-{name}": str(saved_transformer_lora(name, folder / "loras" / name)) for name in STYLED}
    async with steered(valkey, folder, models=models, adapters=adapters, max_loaded_models=8) as found:
        yield found


async def card_of(http: httpx2.AsyncClient, name: str) -> ModelCard:
    found = (await http.get("/v1/models")).json()["models"]
    return ModelCard.model_validate(next(each for each in found if each["name"] == name))


async def heat_of(http: httpx2.AsyncClient, body: Json) -> np.ndarray:
    """What the threshold cuts of the only target of a question."""
    (segment,) = (await done(http, body, "/v1/attribute"))["result"]["segments"]
    return np.load(BytesIO((await http.get((segment["refined_npy"] or segment["heatmap_npy"])["url"])).content))


@pytest.mark.parametrize("name", SERVED)
async def test_a_transformer_draws_as_diffusers_does_and_is_asked_and_learns(service: Service, name: str) -> None:
    http, worker = service
    card = await card_of(http, name)
    record = await done(http, SMALL | {"model": name, "num_images": 2, "targets": [{"word": "cat"}], "every": 1, **NO_CRF})
    result = record["result"]
    assert (result["keep"], result["self_attention"], result["evaluations"], len(result["images"])) == ("replay", True, 2, 2)
    assert 0 < min(result["timesteps"]) < max(result["timesteps"]) <= 1000
    assert {block["name"] for block in result["blocks"]} == {block.name for block in card.blocks}
    job = JobRecord.model_validate(record).request
    assert isinstance(job, GenerateJob)
    assert card.sizes is not None
    branches = 1 if card.guidance_embedded else 2
    expected = stored(job.capture, 0, card, card.sizes, (64, 96), 2, branches)
    assert result["images"][0]["trace_bytes"] == pytest.approx(expected, rel=0.25)

    pipeline = (await worker.models.get(name)).pipeline
    generators = [torch.Generator().manual_seed(3 + number) for number in range(2)]
    options = {"guidance_scale": card.default_guidance_scale, "output_type": "pil", "generator": generators}
    options["max_sequence_length"] = {"pixart": 300, "sana": 300, "sd3": 256}.get(card.family, 512)
    with ovam.capture(pipeline, self_attention=True) as traces:
        images = draw(pipeline, name, [PROMPT] * 2, **options)
    assert np.abs(await pixels(http, record, 1) - np.asarray(images[1]).astype(int)).max() <= 1

    question = {"job_id": record["id"], "image": 1, "targets": [{"word": "tree"}], "confidence": True, **NO_CRF}
    warm = await heat_of(http, question)
    assert np.allclose(warm, ovam.segment(traces[1], pipeline, "tree", "ovam", images[1]).heatmap, atol=1e-4)
    worker.scenes.forget_model(name)  # as a restart does: the stored replay has to do
    assert np.allclose(warm, await heat_of(http, question), atol=1e-5)
    probed = await done(http, {"point": [3, 3], "words": ["cat", "dog"]}, f"/v1/jobs/{record['id']}/probe")
    assert {each["word"] for each in probed["result"]["words"]} == {"cat", "dog"}

    mask = base64_mask(left_half(96)[:64])
    learning = {"name": f"dog-{card.family}", "classes": ["dog"], "epochs": 3, "optimizer": "adam"}
    await done(http, learning | {"examples": [{"job_id": record["id"], "mask": mask}]}, "/v1/optimize")
    token = (await http.get(f"/v1/tokens/dog-{card.family}")).json()
    assert (token["family"], token["width"]) == (card.family, card.text_width)
    assert (await heat_of(http, {"job_id": record["id"], "targets": [{"token": token["name"]}], **NO_CRF})).shape == (64, 96)
    real = await done(http, {"model": name, "image": encoded(picture(64, 64)), "timesteps": [500]}, "/v1/images")
    assert (await heat_of(http, {"job_id": real["id"], "targets": [{"word": "cat"}], **NO_CRF})).shape == (64, 64)


@pytest.mark.parametrize("name", STYLED)
async def test_a_transformer_draws_with_a_lora_is_asked_with_it_and_is_as_it_was(service: Service, name: str) -> None:
    http, worker = service
    card, transformer = await card_of(http, name), (await worker.models.get(name)).pipeline.transformer
    before = {key: tensor.clone() for key, tensor in transformer.state_dict().items()}
    plain, styled = [
        await done(http, SMALL | {"model": name} | more) for more in ({}, {"adapters": [{"name": f"style-{name}", "scale": 0.5}]})
    ]
    assert [(use["kind"], use["scale"]) for use in styled["result"]["adapters"]] == [("lora", 0.5)]
    assert styled["result"]["keep"] == "replay"
    pipeline = tiny_transformer(name)
    (sample,) = [each for each in card.adapters if each.name == f"style-{name}"]
    assert sample.kind == "lora"
    pipeline.load_lora_weights(worker.models.adapters[sample.name], adapter_name="it")
    pipeline.set_adapters(["it"], [0.5])
    options: Json = {"guidance_scale": card.default_guidance_scale, "max_sequence_length": 256 if name == "sd3.5" else 512}
    with ovam.capture(pipeline) as traces:
        (image,) = draw(pipeline, name, PROMPT, generator=torch.Generator().manual_seed(3), output_type="pil", **options)
    assert np.abs(await pixels(http, styled) - np.asarray(image).astype(int)).max() <= 1
    question = {"job_id": styled["id"], "targets": [{"word": "tree"}], **NO_CRF}
    warm = await heat_of(http, question)
    assert np.allclose(warm, ovam.segment(traces[0], pipeline, "tree", "ovam", image).heatmap, atol=1e-4)
    worker.scenes.forget_model(name)
    assert np.allclose(warm, await heat_of(http, question), atol=1e-5)
    compared = await done(http, question | {"against": plain["id"]}, "/v1/attribute")
    assert compared["result"]["segments"][0]["difference"]["total"] > 0
    assert all(torch.equal(tensor, before[key]) for key, tensor in transformer.state_dict().items())


NEGATIVE: Json = {"negative_prompt": "a tree"}


@pytest.mark.parametrize(
    ("name", "more"),
    [("sd1", {"emphasis": [{"word": "cat", "weight": 1.5}]}), ("pixart", {}), ("sana", {}), ("sd3.5", {"clip_skip": 1})],
)
async def test_images_are_guided_away_from_a_negative_prompt_as_diffusers_does(service: Service, name: str, more: Json) -> None:
    http, worker = service
    card = await card_of(http, name)
    plain, record = [await done(http, SMALL | {"model": name} | more | given) for given in ({}, NEGATIVE)]
    assert record["request"] | {"negative_prompt": ""} == plain["request"]
    shown, away = [await pixels(http, each) for each in (plain, record)]
    assert np.abs(shown - away).max() > 1
    pipeline = (await worker.models.get(name)).pipeline
    options: Json = NEGATIVE | {"guidance_scale": card.default_guidance_scale, "generator": torch.Generator().manual_seed(3)}
    if name == "sd1":
        (embedding, tokens), (empty, _) = [ovam.encode(pipeline, text, padding="max_length") for text in (PROMPT, "")]
        rows = [token.index for token in ovam.word_tokens(tokens, PROMPT, "cat")]
        embedding[rows] = empty[rows] + 1.5 * (embedding[rows] - empty[rows])
        size = {key: SMALL[key] for key in ("num_inference_steps", "height", "width")}
        image = pipeline(prompt_embeds=embedding[None], **options, **size).images[0]
    else:
        options |= {"max_sequence_length": 256 if card.family == "sd3" else 300, "output_type": "pil"} | more
        image = draw(pipeline, name, PROMPT, **options)[0]
    assert np.abs(away - np.asarray(image).astype(int)).max() <= 1


async def test_the_attention_of_a_question_is_chosen_and_its_words_are_the_images_own(service: Service) -> None:
    http, worker = service
    drawn = await done(http, SMALL | {"model": "sd3.5"})
    pipeline = (await worker.models.get("sd3.5")).pipeline
    replay = ovam.Replay.from_bytes((await http.get(f"/v1/jobs/{drawn['id']}/artifacts/replay-0.safetensors")).content)
    trace = replay.trace(pipeline)
    for attention in ("joint", "text", "concept"):
        settings = {"attention": attention, "refine": {"kind": "none"}, "crf": None, "blocks": ["transformer_blocks.2"]}
        (segment,) = (await done(http, ask(drawn, {"word": "dog"}, settings), "/v1/attribute"))["result"]["segments"]
        found = np.load(BytesIO((await http.get(segment["heatmap_npy"]["url"])).content))
        words = ovam.Words("a photograph of a dog" if attention == "concept" else PROMPT, "dog")
        assert segment["target"]["prompt"] == words.prompt
        method = ovam.Method(attention=attention, blocks=("transformer_blocks.2",))
        assert np.allclose(found, ovam.segment(trace, pipeline, words, method).heatmap, atol=1e-5)


def ask(record: Json, target: Json, settings: Json | None = None) -> Json:
    return {"job_id": record["id"], "targets": [target], **({"settings": settings} if settings else {})}


async def test_a_card_says_what_a_model_can_and_why_it_cannot_do_the_rest(service: Service) -> None:
    http, _ = service
    sd1, pixart, sd3, flux = [await card_of(http, name) for name in ("sd1", "pixart", "sd3.5", "flux")]
    assert (sd1.cannot, sd1.attentions) == ({}, ["cross"])
    assert {"image", "lora", "causal", "queries", "confidence"} <= {*sd1.can}
    assert "lora" not in {*sd3.cannot, *flux.cannot}
    assert pixart.can == ["negative_prompt", "queries", "confidence", "aggregation"]
    assert sd3.can == ["negative_prompt", "confidence", "clip_skip", "lora"]
    assert flux.can == ["confidence", "lora"]
    assert all(not {*card.can} & {*card.cannot} for card in (pixart, sd3, flux))
    assert (sd3.attentions, sd3.default_keep, flux.max_tokens) == (["concept", "joint", "text"], "replay", 512)
    assert (pixart.adapters, {*pixart.other_adapters.values()}) == ([], {pixart.cannot["lora"]})
    assert [each.name for each in sd3.adapters] == ["style-sd3.5"]


DRAWING = "/v1/generate"
IMAGE = encoded(picture())


@pytest.mark.parametrize(
    ("model", "body", "code", "field", "says"),
    [
        ("pixart", {"image": IMAGE}, "settings-contradict", "image", "noise"),
        ("sd3.5", {"emphasis": [{"word": "cat", "weight": 0.5}]}, "settings-contradict", "emphasis", "CLIP"),
        ("flux", {"negative_prompt": "a dog"}, "settings-contradict", "negative_prompt", "input of the model"),
        ("flux", {"clip_skip": 1}, "settings-contradict", "clip_skip", "not CLIP's"),
        ("flux", {"capture": {"branch": "unconditional"}}, "settings-contradict", "capture.branch", "no such branch"),
        ("sd3.5", {"capture": {"keep": "queries"}}, "settings-contradict", "capture.keep", "replay"),
        ("sd3.5", {"capture": {"heads": 0}}, "selection-invalid", "capture.heads", "'all'"),
        ("sana", {"height": 48}, "size-not-divisible", "height", "32"),
        ("sd3.5", {"adapters": [{"name": "style"}]}, "adapter-unfit", "adapters.0.name", "with a unet"),
        ("flux", {"adapters": [{"name": "style-sd3.5"}]}, "adapter-unfit", "adapters.0.name", "takes 16 numbers"),
        ("pixart", {"adapters": [{"name": "style"}]}, "adapter-unfit", "adapters.0.name", "diffusers loads none"),
        ("pixart", {"scheduler": "FlowMatchEulerDiscreteScheduler"}, "unknown-scheduler", "scheduler", "DPMSolver"),
        ("flux", {"prompt": "a " * 600}, "prompt-too-long", "prompt", "512"),
    ],
)
async def test_what_a_family_cannot_draw_is_refused(
    service: Service, model: str, body: Json, code: str, field: str, says: str
) -> None:
    http, _ = service
    answer = await http.post(DRAWING, json=SMALL | {"model": model} | body)
    assert_problem(answer, 422, code, field)
    assert says in answer.json()["detail"]


async def test_what_a_family_cannot_answer_is_refused(service: Service) -> None:
    http, _ = service
    drawn = {name: await done(http, SMALL | {"model": name}) for name in ("sd1", "pixart", "flux")}
    other = await done(http, SMALL | {"model": "flux", "prompt": "a tree"})
    learning = {"name": "alien", "classes": ["dog"], "epochs": 1, "optimizer": "adam"}
    examples = [{"job_id": drawn["sd1"]["id"], "mask": base64_mask(left_half(96)[:64])}]
    await done(http, learning | {"examples": examples}, "/v1/optimize")
    joint = {"attention": "joint"}
    for name, body, code, field, says in (
        ("pixart", ask(drawn["pixart"], {"word": "cat"}, joint), "attention-unavailable", "settings.attention", "cross"),
        (
            "flux",
            ask(drawn["flux"], {"word": "cat"}, {"attention": "cross"}),
            "attention-unavailable",
            "settings.attention",
            "joint",
        ),
        ("flux", ask(drawn["flux"], {"word": "tree"}, joint), "word-not-in-prompt", "targets.0.word", PROMPT),
        (
            "flux",
            ask(drawn["flux"], {"prompt": "a cat", "word": "cat"}, joint),
            "settings-contradict",
            "targets.0.prompt",
            PROMPT,
        ),
        ("flux", ask(drawn["flux"], {"word": "cat"}, {"heads": 1}), "selection-invalid", "settings.heads", "0"),
        (
            "flux",
            ask(drawn["flux"], {"word": "cat"}, {"blocks": ["single"]}),
            "selection-invalid",
            "settings.blocks",
            "transformer",
        ),
        (
            "flux",
            ask(drawn["flux"], {"word": "cat"}, joint) | {"against": other["id"]},
            "settings-contradict",
            "against",
            "a tree",
        ),
        ("flux", ask(drawn["flux"], {"word": "cat"}) | {"causal": {}}, "settings-contradict", "causal", "UNet"),
        ("flux", ask(drawn["flux"], {"token": "alien"}), "token-of-other-family", "targets.0.token", "unet"),
        (
            "flux",
            ask(drawn["flux"], {"word": "cat"}, joint) | {"softmax": "together", "distractors": [{"word": "dog"}]},
            "settings-contradict",
            "settings.attention",
            "concept",
        ),
    ):
        answer = await http.post("/v1/attribute", json=body)
        assert_problem(answer, 422, code, field)
        assert says in answer.json()["detail"], (name, answer.json())
    probe = await http.post(f"/v1/jobs/{drawn['flux']['id']}/probe", json={"point": [1, 1], "words": ["cat"], "heads": 1})
    assert_problem(probe, 422, "selection-invalid", "heads")
