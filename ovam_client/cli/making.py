"""`ovam generate` and `ovam image`: images whose attention is kept."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ovam_client.cli.segments import line, save
from ovam_client.cli.segments import target as sought
from ovam_client.cli.session import AsJson, OutFile, note, numbered, printed, service, waited, write
from ovam_client.sync import Client, Job

EMPHASIS = re.compile(r"(.+?)(?:#(\d{1,3}))?:(\d*\.?\d+)")
JOB_IMAGE = re.compile(r"([0-9a-z]{26})(?::(\d{1,4}))?")
Model = Annotated[str | None, typer.Option(help="A model's name; the service's default without it.")]
Steps = Annotated[int | None, typer.Option(help="Steps of the scheduler.")]
Guidance = Annotated[float | None, typer.Option(help="Guidance scale.")]
Negative = Annotated[str | None, typer.Option(help="What to avoid.")]
Scheduler = Annotated[str | None, typer.Option(help="A diffusers class.")]
Adapters = Annotated[
    list[str] | None, typer.Option("--adapter", "-a", help="A LoRA or a textual inversion, with its scale: watercolour:0.8.")
]
ClipSkip = Annotated[int | None, typer.Option(help="Leave out the text encoder's last layers.")]
Side = Annotated[int | None, typer.Option(help="Pixels; the model's own size without it.")]
SelfAttention = Annotated[bool | None, typer.Option(help="Keep what refinement needs; as the model does without it.")]
Targets = Annotated[
    list[str] | None, typer.Option("--target", "-t", help="What to look for, while it is drawn; as `ovam attribute`.")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the job's id and leave; see `ovam jobs wait`.")]


def generate(  # noqa: PLR0913, PLR0917  # each is an option of the command
    prompt: Annotated[str, typer.Argument(help="What to generate.")],
    out: OutFile = None,
    seed: Annotated[int | None, typer.Option(help="Image k has seed + k; random without it.")] = None,
    images: Annotated[int | None, typer.Option("--images", "-n", help="How many images.")] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    negative: Negative = None,
    scheduler: Scheduler = None,
    model: Model = None,
    height: Side = None,
    width: Side = None,
    image: Annotated[
        str | None, typer.Option(help="Start from this picture: a file, or a job's id (and :1 for its second).")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="A PNG: paint the picture anew where it is bright.")] = None,
    strength: Annotated[float | None, typer.Option(help="How much of the picture is replaced, up to 1.")] = None,
    adapter: Adapters = None,
    control: Annotated[str | None, typer.Option(help="A ControlNet and what it follows: depth=depth.png.")] = None,
    control_scale: Annotated[float | None, typer.Option(help="How much that counts, 0 to 2; 1 without it.")] = None,
    control_start: Annotated[float | None, typer.Option(help="After which share of the steps it begins to count.")] = None,
    control_end: Annotated[float | None, typer.Option(help="After which share of the steps it does no more.")] = None,
    like: Annotated[str | None, typer.Option(help="An IP-Adapter and a picture to be like: looks=cat.png.")] = None,
    like_scale: Annotated[float | None, typer.Option(help="How much that counts, 0 to 2; 1 without it.")] = None,
    emphasis: Annotated[
        list[str] | None,
        typer.Option(
            "--emphasis", "-e", help="How much a word of the prompt counts, 0 to 2: car:1.5, or car#0:1.5 for its first."
        ),
    ] = None,
    clip_skip: ClipSkip = None,
    target: Targets = None,
    masks: Annotated[Path | None, typer.Option(file_okay=False, help="A folder for the files of the targets.")] = None,
    min_area: Annotated[float | None, typer.Option(help="Least share of the image that the first target covers.")] = None,
    max_area: Annotated[float | None, typer.Option(help="Largest share of the image that it covers.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds to try for an image in which it does not; 1: no other.")] = None,
    *,
    self_attention: SelfAttention = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Generate images and keep their attention. Prints the job's id, which `ovam attribute` asks; and a line for each target."""
    gate = given(min_area=min_area, max_area=max_area, seeds=seeds)
    wanted = [sought(each) | {"label": each} for each in target or ()]
    for option, value in (("--masks", masks), ("--min-area, --max-area and --seeds", gate)):
        if value and not wanted:
            raise typer.BadParameter(f"{option} need a --target", param_hint="--target")
    options = given(
        gate={"target": target[0], **gate} if target and gate else None,
        seed=seed,
        num_images=images,
        num_inference_steps=steps,
        guidance_scale=guidance,
        negative_prompt=negative,
        scheduler=scheduler,
        model=model,
        height=height,
        width=width,
        strength=strength,
        adapters=scaled(adapter),
        control=followed(control, "--control", scale=control_scale, start=control_start, end=control_end),
        image_prompt=followed(like, "--like", scale=like_scale),
        emphasis=[emphasised(each) for each in emphasis] if emphasis else None,
        clip_skip=clip_skip,
        capture=captured(self_attention),
    )
    with service() as client:
        job = client.generate(prompt, targets=wanted, image=started(image), mask=mask, **options)
        finish(client, job, "generate", out, no_wait=no_wait, as_json=as_json)
        if wanted and not no_wait:
            tell(job, client, masks, as_json=as_json)


def image(  # noqa: PLR0913  # each is an option of the command
    picture: Annotated[Path, typer.Argument(help="A PNG, JPEG or WebP.", exists=True, dir_okay=False, readable=True)],
    out: OutFile = None,
    prompt: Annotated[str | None, typer.Option(help="A caption of the image.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the noise.")] = None,
    model: Model = None,
    height: Side = None,
    width: Side = None,
    *,
    self_attention: SelfAttention = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Let the model look at a real image and keep its attention. Prints the job's id, which `ovam attribute` asks."""
    options = given(prompt=prompt, seed=seed, model=model, height=height, width=width, capture=captured(self_attention))
    with service() as client:
        finish(client, client.images.upload(picture, **options), "look", out, no_wait=no_wait, as_json=as_json)


def started(image: str | None) -> str | dict[str, Any] | None:
    """A picture to start from: a file, or an image of a job."""
    found = JOB_IMAGE.fullmatch(image or "")
    return {"job_id": found[1], "image": int(found[2] or 0)} if found and not Path(image or "").exists() else image


def scaled(adapters: list[str] | None) -> list[dict[str, Any]] | None:
    """Adapters from `name` or `name:scale`."""
    found = []
    for each in adapters or ():
        name, _, scale = each.partition(":")
        try:
            found.append({"name": name} | ({"scale": float(scale)} if scale else {}))
        except ValueError as error:
            raise typer.BadParameter(f"{each!r} is not NAME or NAME:SCALE", param_hint="--adapter") from error
    return found or None


def emphasised(said: str) -> dict[str, Any]:
    """A word and how much it counts, from `word:weight` or `word#occurrence:weight`."""
    found = EMPHASIS.fullmatch(said)
    if found is None:
        raise typer.BadParameter(f"{said!r} is not WORD:WEIGHT or WORD#OCCURRENCE:WEIGHT", param_hint="--emphasis")
    word, occurrence, weight = found.groups()
    return given(word=word, weight=float(weight), occurrence=None if occurrence is None else int(occurrence))


def followed(said: str | None, option: str, **settings: float | None) -> dict[str, Any] | None:
    """An adapter, its image, from `name=image`, and how much it counts."""
    chosen = given(**settings)
    if said is None:
        if chosen:
            raise typer.BadParameter(f"it has no effect without {option}", param_hint=f"{option}-{next(iter(chosen))}")
        return None
    name, equals, image = said.partition("=")
    if not equals:
        raise typer.BadParameter(f"{said!r} is not NAME=IMAGE", param_hint=option)
    return {"name": name, "image": started(image)} | chosen


def tell(job: Job[Any], client: Client, folder: Path | None, *, as_json: bool) -> None:
    """Write the files of the targets of every image, and print a line for each."""
    images = job.result.images
    for image in images:
        segments = job.segments_of(image.index)
        if folder is not None:
            save(client, segments, folder if len(images) == 1 else folder / str(image.index))
        for segment in () if as_json else segments:
            typer.echo(line(segment))


def given(**options: Any) -> Any:  # noqa: ANN401  # options of requests
    """The options that are given."""
    return {name: value for name, value in options.items() if value is not None}


def captured(self_attention: bool | None) -> dict[str, bool] | None:  # noqa: FBT001  # an option as it comes
    """What is kept of the attention, if that is said."""
    return None if self_attention is None else {"self_attention": self_attention}


def finish(client: Client, job: Job[Any], title: str, out: Path | None, *, no_wait: bool, as_json: bool) -> None:
    """Wait for images and write them."""
    if not no_wait:
        waited(job, title)
    elif out is not None:
        note(f"--out has no effect with --no-wait; later: ovam jobs download {job.id} --out {out.parent}")
    if as_json:
        printed(job.record)
    else:
        typer.echo(job.id)  # before anything is written, which may fail
    files = [] if no_wait else [each.image for each in job.result.images]
    for path, file in zip(numbered(out, len(files)) if out else [], files, strict=False):
        write(path, client.download(file))
