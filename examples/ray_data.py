"""Pseudo-masks in bulk without the service: Ray Data runs the library on any number of machines, and writes WebDataset shards.

pip install "ovam-service[ray]"
python examples/ray_data.py --model models/world --images 1000 --actors 2 --out shards

Each actor loads the model once and makes a shard of every batch. A batch that dies with its machine is made again by another
actor, under the same name and from the same seeds. `--out` is a folder that all machines see, or s3://bucket/prefix.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from diffusers import StableDiffusionPipeline
from pyarrow import fs

import ovam
from ovam.core.export import Annotation, Sample, Split, WebDataset, export
from ovam.core.methods import ByAffinity
from ovam.core.selection import Span
from ovam.core.thresholds import Share

AT_A_TIME = 4  # images that the UNet draws together
HALF = 0.5  # of a CPU, as Ray counts them for an actor: were all taken, nothing could feed the actors, and all would wait
METHOD = ovam.Method(evaluations=Span(0.5), refine=ByAffinity(), threshold=Share(0.4, "minmax"))  # suits models/world


class Annotator:
    """Makes a batch of labelled images and writes it as shards; an actor of Ray's."""

    def __init__(self, model: str, classes: Sequence[str], steps: int, out: str) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float16 if device == "cuda" else torch.float32
        self.pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=dtype).to(device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.steps, self.out = steps, out
        self.labels = classes  # under the name `classes`, cloudpickle takes it for torch.classes and gives up

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """Return the name and the number of images of each shard of a batch of `number`s."""
        numbers = [int(number) for number in batch["id"]]
        filesystem, folder = fs.FileSystem.from_uri(self.out)
        filesystem.create_dir(folder)
        counts: Counter[str] = Counter(Split().of(name_of(number)) for number in numbers)
        shards: list[str] = []
        for file in export(self.samples(numbers), WebDataset(shard_bytes=1 << 32), self.labels):
            split, _, suffix = file.path.partition("-000000.")
            if suffix == "tar":
                shards.append(f"{split}-{numbers[0]:09d}.tar")
                with filesystem.open_output_stream(f"{folder}/{shards[-1]}") as stream:
                    for chunk in file.chunks():
                        stream.write(chunk)
        return {"shard": shards, "images": [counts[shard.partition("-")[0]] for shard in shards]}

    def samples(self, numbers: Sequence[int]) -> Iterator[Sample]:
        """Generate images, a few at a time, and find in each the thing of its prompt."""
        for start in range(0, len(numbers), AT_A_TIME):
            some = numbers[start : start + AT_A_TIME]
            labels = [self.labels[number % len(self.labels)] for number in some]
            prompts = [f"a photograph of a {label}" for label in labels]
            generators = [torch.Generator().manual_seed(number) for number in some]
            with ovam.capture(self.pipeline, self_attention=True) as traces:
                made = self.pipeline(prompts, guidance_scale=3.0, num_inference_steps=self.steps, generator=generators)
            for number, label, prompt, image, trace in zip(some, labels, prompts, made.images, traces, strict=True):
                segment = ovam.segment(trace, self.pipeline, ovam.Words(prompt, label), METHOD)
                things = [Annotation(label, segment.mask, segment.score)]
                yield Sample(name_of(number), image, things, prompt=prompt, seed=number)


def name_of(number: int) -> str:
    """Return the name of the image of a number, which is also its seed."""
    return f"{number:09d}"


def main() -> None:
    """Make a data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/world", help="folder or hub id")
    parser.add_argument("--classes", nargs="+", default=["car", "cat", "dog", "boat"])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--shard", type=int, default=250, help="images of a batch, which becomes a shard")
    parser.add_argument("--steps", type=int, default=20, help="evaluations of the UNet")
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--gpus", type=float, default=0.0, help="of an actor")
    parser.add_argument("--out", default="shards")
    chosen = parser.parse_args()
    out = chosen.out if "://" in chosen.out else Path(chosen.out).resolve().as_uri()
    shards = ray.data.range(chosen.images).map_batches(
        Annotator,
        fn_constructor_args=(chosen.model, chosen.classes, chosen.steps, out),
        batch_size=chosen.shard,
        compute=ray.data.ActorPoolStrategy(size=chosen.actors),
        num_cpus=0 if chosen.gpus else HALF,
        num_gpus=chosen.gpus,
    )
    for row in shards.iter_rows():
        print(f"{row['shard']}: {row['images']} images", flush=True)


if __name__ == "__main__":
    main()
