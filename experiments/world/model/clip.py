"""A small CLIP of the world, by which data sets can be filtered: `python -m experiments.world.model.clip --out models/clip`.

It learns from the same scenes and captions as the pipeline, never from masks. On a GPU: a minute and a half; resumes from its
checkpoint.
"""

import json
import math
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from experiments.bundled import MODEL
from experiments.world import atlas
from experiments.world.captions import article
from experiments.world.model import data
from experiments.world.model.__main__ import prepare
from experiments.world.model.denoiser import HELD_BACK
from experiments.world.model.parallel import device
from experiments.world.model.text import LENGTH
from experiments.world.model.training import Plan, Training
from experiments.world.scene import HELD_OUT, SIZE, WORLD, Recipe, classes_of, draw, sample

PATCH = 16  # pixels of a patch's side
WIDTH, LAYERS, HEADS = 192, 6, 6  # of the half that sees
TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS = 128, 3, 4
TOGETHER = 128  # directions that images and texts are compared in
HOTTEST = math.log(100)  # of the factor of cosines, as CLIP has it
SHIFT = 8  # pixels by which pictures are moved, so that few scenes are many
SOFT = 0.3  # of the batches are blurred: what a model draws has softer edges than a render
PROMPT = "A photograph of {}"  # the paper's, with the article that a word has
LOOKED_AT = 20  # of a class, to measure
Images = NDArray[np.uint8]  # (n, height, width, 3)


def new_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIP for the world's pictures and words."""
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 4 * TEXT_WIDTH,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": TEXT_HEADS,
        "max_position_embeddings": LENGTH,
        "projection_dim": TOGETHER,
    }
    vision = {
        "image_size": SIZE,
        "patch_size": PATCH,
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "projection_dim": TOGETHER,
    }
    return CLIPModel(CLIPConfig(text_config=text | ends, vision_config=vision, projection_dim=TOGETHER))


def processor() -> CLIPImageProcessorPil:
    """What makes pictures ready for it: the whole picture, values from -1 to 1."""
    square = {"height": SIZE, "width": SIZE}
    return CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size=square, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_convert_rgb=True
    )


def moved(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Pictures (n, height, width, 3) of bytes as the model sees them in training: moved a little, some of them blurred."""
    seen = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    left, top = (int(value) for value in rng.integers(0, 2 * SHIFT + 1, 2))
    seen = pad(seen, (SHIFT,) * 4, mode="reflect")[..., top : top + SIZE, left : left + SIZE]
    return avg_pool2d(seen, 3, stride=1, padding=1, count_include_pad=False) if rng.random() < SOFT else seen


def train(folder: Path, out: Path, plan: Plan, batch: int) -> CLIPModel:
    """Train on a set that `python -m experiments.world.model` drew, and write a folder that transformers loads."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    model = new_clip(tokenizer).to(device())
    training = Training.begin([model], folder / "clip.pt", plan, data.marks(folder))
    images, ids = torch.from_numpy(np.array(data.images(folder))).to(device()), data.token_ids(folder, tokenizer)
    texts, rng = torch.from_numpy(ids.astype(np.int64)).to(device()), np.random.default_rng(training.step)
    compare = torch.compile(model) if device().type == "cuda" else model
    going = not training.progress.done
    while going:
        rows = torch.from_numpy(rng.integers(min(HELD_BACK, len(images) // 4), len(images), batch))
        which = torch.from_numpy(rng.integers(texts.shape[1], size=batch))
        with torch.autocast(device().type, torch.bfloat16, enabled=device().type == "cuda"):
            found = compare(input_ids=texts[rows, which], pixel_values=moved(images[rows], rng), return_loss=True)
        going = training.advance(found.loss, batch)
        with torch.no_grad():
            model.logit_scale.clamp_(max=HOTTEST)
        if training.step % 100 == 0:
            print(f"clip: loss {found.loss.item():.4f}, step {training.step}, {training.progress}", flush=True)
        if training.save_is_due:
            training.save()
    training.average.copy_to(training.parameters)
    model.eval().to(torch.float16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    processor().save_pretrained(out)
    return model.float()


@torch.inference_mode()
def named(model: CLIPModel, tokenizer: CLIPTokenizer, recipe: Recipe) -> float:
    """How many scenes of one thing, which no training sees, are closest to the text of their class, of those of all classes."""
    names = classes_of(recipe)
    pictures, truths = zip(*(one_thing(name, number, recipe) for name in names for number in range(LOOKED_AT)), strict=True)
    texts = [PROMPT.format(article(atlas.load().kind(name).words[0])) for name in names]
    tokens = tokenizer(texts, padding=True, return_tensors="pt").to(model.device)
    pixels = torch.from_numpy(np.stack(pictures)).to(model.device).permute(0, 3, 1, 2).float() / 127.5 - 1
    scores = torch.cat([model(**tokens, pixel_values=part).logits_per_image for part in pixels.split(200)])
    return float(np.mean([names[best] == truth for best, truth in zip(scores.argmax(dim=1).tolist(), truths, strict=True)]))


def one_thing(name: str, number: int, recipe: Recipe) -> tuple[Images, str]:
    """A picture of one thing, and what it is."""
    rng = np.random.default_rng((data.UNSEEN, atlas.load().label(name), number))
    return draw(sample(rng, recipe, (name,))).image, name


def main(
    folder: Annotated[Path, typer.Option(help="training set, drawn if it is not there, and checkpoint")] = Path("runs/clip-set"),
    out: Annotated[Path, typer.Option(help="where the model is saved")] = Path("runs/clip"),
    seconds: Annotated[float, typer.Option(help="of training")] = 90,
    batch: Annotated[int, typer.Option(help="pictures and captions that are compared with each other")] = 1024,
    images: Annotated[int, typer.Option(help="scenes in the training set")] = 240_000,
    first: Annotated[int, typer.Option(help="number of the first; those of the bundled model are below a million")] = 1_000_000,
    rate: Annotated[float, typer.Option(help="peak of Muon's learning rate; AdamW has half of it")] = 2e-3,
) -> None:
    """Train, or go on, and say how often it knows what a picture shows."""
    prepare(folder, WORLD.name, images, first, MODEL)  # with the bundled model's tokenizer
    model = train(folder, out, Plan(seconds, rate=rate, rest=rate / 2, decay_from=0.2), batch)
    tokenizer = CLIPTokenizer.from_pretrained(out)
    shares = {"named": named(model, tokenizer, WORLD), "named, held-out style": named(model, tokenizer, HELD_OUT)}
    (out / "world.json").write_text(json.dumps(data.marks(folder) | shares, indent=1) + "\n")
    print(shares)


if __name__ == "__main__":
    typer.run(main)
