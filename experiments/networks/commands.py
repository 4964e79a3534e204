"""The commands of Table 3: train its networks, export one, and use it."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from experiments.bundled import MODEL
from experiments.console import command, end, through

if TYPE_CHECKING:
    from experiments.networks.table3 import Data, Plan

app = typer.Typer()
SETTING = "affinity 1 + dCRF"
Work = Annotated[Path, typer.Option(help="folder for what is under way, and trained networks")]
Network = Annotated[Path, typer.Option(exists=True, file_okay=False, help="a trained network, as `export-network` writes it")]
VALIDATION, VALIDATION_IMAGES = 200_000, 400
"""First seed of the renders that networks are judged by. Those that are trained on begin at 0; recipes were tuned by those from
100,000 on."""


@app.command()
def table3(
    synthetic: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="the data set", show_default="that of `dataset` with its defaults")
    ] = None,
    real: Annotated[
        Path | None, typer.Option(metavar="VOCDEVKIT", help="real images", show_default="renders of the held-out style")
    ] = None,
    size: Annotated[str, typer.Option(help="of the networks: tiny or published")] = "tiny",
    steps: Annotated[int, typer.Option(min=1, help="of each stage")] = 1500,
    seeds: Annotated[int, typer.Option(min=1, help="trainings of every row")] = 3,
    networks: Annotated[list[str] | None, typer.Option("--network", help="which; all without it")] = None,
    work: Work = Path("runs/table3"),
    processes: Annotated[int, typer.Option(min=1, help="of one thread each")] = 2,
) -> None:
    """Train segmentation networks on synthetic images, real ones, and one after the other. Goes on where it stopped.

    Results and their page are written to experiments/results and docs, with --real beside the trained networks.
    """
    from experiments.networks import nets  # noqa: PLC0415  # other commands need no model
    from experiments.networks.table3 import Course, Plan  # noqa: PLC0415

    for name in networks or ():
        check("--network", name, nets.KINDS)
    check("--size", size, nets.SIDES)
    data = data_of(synthetic or default_data_set(), real)
    plan = Plan(work, data, Course(cast("nets.Size", size), steps, seeds, tuple(networks or nets.KINDS)))
    through(plan, processes)
    results, docs = (plan.folder, plan.folder) if real else (Path("experiments/results"), Path("docs/results"))
    conclude(plan, str(real or ""), results, docs)


def check(option: str, value: str, allowed: Iterable[str]) -> None:
    """End with what is allowed for an option, unless the value is among it."""
    if value not in allowed:
        end(f"{option} is {value!r}; allowed: {', '.join(map(repr, allowed))}")


def data_of(synthetic: Path, real: Path | None) -> "Data":
    """What is trained on and judged by; without real images renders, as many for each synthetic image as the paper has."""
    from experiments.networks.examples import BadFolderError, Renders, voc_folder  # noqa: PLC0415
    from experiments.networks.table3 import OF_SYNTHETIC, Data  # noqa: PLC0415

    try:
        made = voc_folder(synthetic, "paper", "train")
        if real:
            return Data(made, voc_folder(real, "train"), voc_folder(real, "val"))
        return Data(made, Renders(0, round(len(made) * OF_SYNTHETIC)), Renders(VALIDATION, VALIDATION_IMAGES))
    except BadFolderError as error:
        end(str(error))


def conclude(plan: "Plan", real: str, results: Path, docs: Path) -> None:
    """Write the results of all trainings and their page."""
    from experiments.evaluation.report import segmentation  # noqa: PLC0415  # other commands need no model
    from experiments.evaluation.summary import commit, rounded, write  # noqa: PLC0415
    from experiments.networks.summary import described, summed_up  # noqa: PLC0415

    source = {"command": command(), "commit": commit(), "real": real}
    found = {"provenance": source, **described(plan), "backbones": plan.known_before(), "networks": summed_up(plan.lines())}
    write({"segmentation": found}, results)
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "segmentation.md").write_text(segmentation.page(rounded(found)))
    print(f"wrote {docs / 'segmentation.md'}; the trained networks are in {plan.folder}")


def default_data_set() -> Path:
    """Where `dataset` with its defaults writes."""
    from experiments.evaluation.defaults import NotMeasuredError  # noqa: PLC0415
    from experiments.factory import plan as making  # noqa: PLC0415
    from experiments.world.atlas import AtlasError  # noqa: PLC0415

    try:
        plan = making.Plan(MODEL, Path("runs/evaluation"), making.setting_of(Path("experiments/results"), MODEL, SETTING))
        folder = plan.folder
    except (NotMeasuredError, AtlasError) as error:
        end(str(error))
    if not (folder / making.LISTS).is_dir():
        end(f"the data set {folder} is not there, or not whole: `python -m experiments dataset` makes it")
    return folder


@app.command()
def export_network(
    trained: Annotated[Path, typer.Argument(help="a folder of `table3`'s: <network>; <row>; <seed>")],
    out: Annotated[Path, typer.Argument(help="a new folder")],
) -> None:
    """Write a trained network for transformers: safetensors, configuration, and the processor of its images."""
    from experiments.networks import exporting  # noqa: PLC0415  # other commands need no model

    name = trained.name
    about = (
        f"# {name}\n\nA segmentation network of Pascal VOC's classes, trained as docs/results/segmentation.md says.\n\n"
        f'    from transformers import pipeline\n    pipeline("image-segmentation", model="{out.name}", '
        'subtask="semantic")("picture.jpg")\n'
    )
    try:
        exporting.copied(trained, out, about)
    except exporting.NoNetworkError as error:
        end(str(error))
    print(f"wrote {out}")


@app.command()
def segment(
    pictures: Annotated[Path, typer.Argument(metavar="FOLDER", help="pictures")],
    network: Network,
    out: Annotated[Path, typer.Option(help="a new folder for label maps and contact-sheet.png")] = Path("runs/segmented"),
) -> None:
    """Segment pictures by a trained network: label maps as Pascal VOC has them, and a contact sheet."""
    from experiments.networks import exporting  # noqa: PLC0415  # other commands need no model
    from ovam.errors import OvamError  # noqa: PLC0415

    try:
        exporting.segment(exporting.pictures(pictures), exporting.load(network), out)
    except (exporting.NoNetworkError, OvamError, OSError) as error:
        end(str(error))
    print(f"wrote {out / 'contact-sheet.png'}")
