"""What the UNet makes of training examples, on the disk: computed once, taken up again at will."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import ovam
from experiments.trained.teacher import Example
from ovam.core.selection import FeatureChoice
from ovam.tracing.features import feature_blocks
from ovam.tracing.model import cross_attentions
from ovam.trained.pyramid import pyramid

A_FILE = 25
"""Examples."""
STEPS = 30
"""Of a generation, whose last evaluation is the one that counts."""


@dataclass(frozen=True)
class Inputs:
    """Which of a UNet's features a network takes."""

    blocks: tuple[str, ...]
    attentions: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Cached:
    """Examples as a network takes them, in half precision."""

    levels: list[Tensor]
    """(examples, channels, height, width), the coarsest first."""
    masks: Tensor
    """(examples, 2, height, width); the second is empty where there is one class alone."""
    classes: Tensor
    """(examples, 2): the classes' numbers, -1 for none."""

    def __len__(self) -> int:
        """Count the examples."""
        return len(self.masks)


def inputs_of_grounded_diffusion(unet: Any) -> Inputs:  # noqa: ANN401 - a UNet
    """All blocks but the last layers of a level, which the change of resolution stands for."""
    names = [*feature_blocks(unet)]
    return Inputs(tuple(name for name, after in zip(names, [*names[1:], ""], strict=True) if ".upsamplers." not in after))


def inputs_of_datasetdm(unet: Any) -> Inputs:  # noqa: ANN401 - a UNet
    """All blocks, and the attention to the prompt's tokens in all of them but the middle one."""
    return Inputs(tuple(feature_blocks(unet)), tuple(name for name in cross_attentions(unet) if not name.startswith("mid_block")))


def cached(
    pipeline: Any,  # noqa: ANN401 - a pipeline
    inputs: Inputs,
    examples: Callable[[int], Example],
    count: int,
    classes: Sequence[str],
    folder: Path,
) -> Cached:
    """Return what the UNet makes of examples; what is in the folder already is not computed again."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for start in range(0, count, A_FILE):
        file = folder / f"{start:05d}.safetensors"
        if not file.exists():
            several = [examples(number) for number in range(start, min(start + A_FILE, count))]
            beside = file.with_suffix(".partial")
            save_file(_computed(pipeline, inputs, several, classes, start), beside)
            beside.replace(file)
            print(f"{folder.name}: {min(start + A_FILE, count)} of {count} examples seen", flush=True)
        files.append(load_file(file))
    levels = sum(name.startswith("level") for name in files[0])
    joined = {name: torch.cat([file.pop(name) for file in files]) for name in [*files[0]]}
    return Cached([joined[f"level {number}"] for number in range(levels)], joined["masks"], joined["classes"])


def last_timestep(pipeline: Any) -> int:  # noqa: ANN401 - a pipeline
    """The timestep of a generation's last evaluation."""
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(STEPS)
    return int(scheduler.timesteps[-1])


def _computed(
    pipeline: Any,  # noqa: ANN401 - a pipeline
    inputs: Inputs,
    examples: Sequence[Example],
    classes: Sequence[str],
    first: int,
) -> dict[str, Tensor]:
    """Let the UNet look at examples, under the noise of its last evaluation."""
    step, seen = last_timestep(pipeline), []
    for number, one in enumerate(examples, start=first):
        trace = ovam.trace_image(pipeline, one.image, prompt=one.prompt, timesteps=[step], seed=number, features=FeatureChoice())
        seen.append([level.half() for level in pyramid(trace, inputs.blocks, inputs.attentions)])
    levels = {f"level {number}": torch.stack(several) for number, several in enumerate(zip(*seen, strict=True))}
    masks = torch.zeros(len(examples), 2, *examples[0].image.shape[:2], dtype=torch.bool)
    found = torch.full((len(examples), 2), -1)
    for row, one in enumerate(examples):
        masks[row, : len(one.masks)] = torch.from_numpy(one.masks)
        found[row, : len(one.classes)] = torch.tensor([classes.index(name) for name in one.classes])
    return {**levels, "masks": masks, "classes": found}
