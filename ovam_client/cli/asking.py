"""`ovam attribute`: where things are in an image."""

import json
from typing import Annotated, Any

import typer

from ovam_client.cli.making import given
from ovam_client.cli.segments import line, save, target
from ovam_client.cli.session import AsJson, JobId, Out, completing, printed, service, token_names, waited

Token = Annotated[list[str] | None, typer.Option(help="A learned token.", autocompletion=completing(token_names))]


def attribute(  # noqa: PLR0913, PLR0917  # each is an option of the command
    job: JobId,
    targets: Annotated[list[str] | None, typer.Argument(help="Words, in the prompt or not; `name@version` is a token.")] = None,
    out: Out = None,
    token: Token = None,
    image: Annotated[int, typer.Option(help="Which image of the job.")] = 0,
    prompt: Annotated[str | None, typer.Option(help="A sentence with the words; each has its own without it.")] = None,
    method: Annotated[
        str | None,
        typer.Option(help="ovam, daam, attn2mask, grounded-diffusion or datasetdm; the model's best settings without it."),
    ] = None,
    attention: Annotated[
        str | None, typer.Option(help="Whose: of a model whose pixels and text attend together concept, joint or text.")
    ] = None,
    aggregation: Annotated[
        str | None, typer.Option(help="How much blocks and heads weigh: equal, or automatic, by what they contribute.")
    ] = None,
    tau: Annotated[float | None, typer.Option(help="Inside is what reaches this share of the hottest pixel.")] = None,
    settings: Annotated[str | None, typer.Option(help="Further settings, as JSON.")] = None,
    against: Annotated[list[str] | None, typer.Option(help="A word that competes and gets no mask.")] = None,
    against_job: Annotated[str | None, typer.Option(help="Another job with such an image: how does its heat differ?")] = None,
    against_image: Annotated[int | None, typer.Option(help="Which image of that job.")] = None,
    instead: Annotated[str | None, typer.Option(help="With --causal: a word in the place of each.")] = None,
    from_evaluation: Annotated[
        float | None, typer.Option(help="With --causal: from which evaluation on, or a fraction of the way; 0.5 without it.")
    ] = None,
    *,
    causal: Annotated[bool, typer.Option("--causal", help="Draw the image again without each word: what changes?")] = False,
    confidence: Annotated[bool, typer.Option("--confidence", help="Also how sure each mask is.")] = False,
    together: Annotated[bool, typer.Option("--together", help="The targets compete for each pixel.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find words and learned tokens in an image. Prints a line for each; `--out` is a folder for their files."""
    wanted = [target(each, prompt) for each in targets or ()] + [{"token": name} for name in token or ()]
    if not wanted:
        raise typer.BadParameter("name a word, or a --token", param_hint="TARGETS")
    changes = changed(settings, {"tau": tau, "attention": attention, "aggregation": aggregation})
    options = given(
        method=method,
        settings=changes or None,
        softmax="together" if together or against else None,
        distractors=against or None,
        against=against_job,
        against_image=against_image,
        confidence=confidence or None,
        causal=given(instead=instead, from_evaluation=whole(from_evaluation)) if causal else None,
    )
    if not causal and (instead is not None or from_evaluation is not None):
        raise typer.BadParameter("it has no effect without --causal", param_hint="--instead" if instead else "--from-evaluation")
    with service() as client:
        answer = waited(client.attribute(job, *wanted, image=image, **options), "attribute")
        segments = answer.segments
        if out is not None:
            save(client, segments, out)
        if as_json:
            printed(answer.record)
        else:
            for segment in segments:
                typer.echo(line(segment))


def whole(number: float | None) -> float | int | None:
    """A position as a whole number; below 1 it is a fraction."""
    return int(number) if number is not None and number >= 1 and number == int(number) else number


def changed(settings: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """The settings that are changed, as JSON and by options of their own."""
    try:
        found = json.loads(settings) if settings else {}
    except ValueError as error:
        raise typer.BadParameter(f"it is no JSON: {error}", param_hint="--settings") from error
    if not isinstance(found, dict):
        raise typer.BadParameter('it is no object; allowed: {"crf": null}, for example', param_hint="--settings")
    for option, setting in (("tau", "threshold"), ("attention", "attention"), ("aggregation", "aggregation")):
        if options[option] is not None and setting in found:
            raise typer.BadParameter(f"--settings has a value of {setting}, too", param_hint=f"--{option}")
    tau = None if options["tau"] is None else {"kind": "share", "tau": options["tau"]}
    return found | given(threshold=tau, attention=options["attention"], aggregation=options["aggregation"])
