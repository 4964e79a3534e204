"""The command that makes the data set of section 4.3."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.bundled import CLIP, MODEL
from experiments.console import command, end, through

app = typer.Typer()
SETTING = "affinity 1 + dCRF"
IMAGES = 4000


@app.command()
def dataset(
    images: Annotated[int, typer.Option(help="to make, classes in turn; more go on where fewer ended")] = IMAGES,
    model: Annotated[Path, typer.Option(exists=True, file_okay=False, help="the pipeline that draws")] = MODEL,
    setting: Annotated[str, typer.Option(help="how masks are made of tokens: a row of the evaluation, such as ovam")] = SETTING,
    clip: Annotated[
        str, typer.Option(metavar="FOLDER|ID", help='a CLIP that knows the pictures; "": the filters by CLIP are off')
    ] = str(CLIP),
    work: Annotated[Path, typer.Option(help="folder for what is under way, and the data set")] = Path("runs/evaluation"),
    processes: Annotated[int, typer.Option(min=1, help="of one thread each")] = 2,
    results: Annotated[Path, typer.Option(help="folder with the evaluation's results")] = Path("experiments/results"),
    docs: Annotated[Path, typer.Option(help="folder for results/data-set.md")] = Path("docs"),
) -> None:
    """Make images with pseudo-masks, filter them by both presets, and measure what the filters do. Goes on where it stopped."""
    from experiments.evaluation import summary  # noqa: PLC0415  # other commands need no model
    from experiments.evaluation.defaults import NotMeasuredError  # noqa: PLC0415
    from experiments.evaluation.report import data_set  # noqa: PLC0415
    from experiments.factory import plan as making  # noqa: PLC0415
    from experiments.world.atlas import AtlasError  # noqa: PLC0415

    try:
        plan = making.Plan(model, work, making.setting_of(results, model, setting), images, clip)
        making.check_images(images, len(plan.evaluation.classes))
        source = summary.provenance(plan.evaluation, command())
    except (NotMeasuredError, AtlasError, ValueError) as error:
        end(str(error))
    through(plan, processes)
    found = making.conclude(plan)
    summary.write({"data-set": {"provenance": source, **found}}, results)
    (docs / "results").mkdir(parents=True, exist_ok=True)
    (docs / "results" / "data-set.md").write_text(data_set.page({"provenance": source, **summary.rounded(found)}))
    print(f"wrote {plan.folder} and {docs / 'results' / 'data-set.md'}")
