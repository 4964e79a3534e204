"""The commands of `python -m experiments`."""

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from experiments.bundled import MODEL
from experiments.console import command, end, through
from experiments.evaluation import defaults, folder, scales, summary
from experiments.evaluation.backends import models, service
from experiments.evaluation.quick import quick_rows
from experiments.evaluation.scales import Scale
from experiments.evaluation.stages import Plan
from experiments.evaluation.tasks import work_through
from experiments.factory import commands as factory
from experiments.networks import commands as networks
from experiments.trained import explain
from experiments.world.atlas import AtlasError

app = typer.Typer(
    help="The paper's evaluation: on a synthetic world with known truth, or on images that people annotated.",
    no_args_is_help=True,
)
app.add_typer(factory.app)
app.add_typer(networks.app)
app.add_typer(explain.app)
Model = Annotated[str, typer.Option(metavar="FOLDER|ID", help="the pipeline to evaluate: a folder, or an id on the hub")]
Folder = Annotated[Path, typer.Option(help="the pipeline whose defaults they become", exists=True, file_okay=False)]
Work = Annotated[Path, typer.Option(help="folder for what is under way; delete it to start over")]
Processes = Annotated[int, typer.Option(min=1, help="of one thread each; start more elsewhere at will")]
Results = Annotated[Path, typer.Option(help="folder for the results' JSON")]
Docs = Annotated[Path, typer.Option(help="folder for results.md, and results/ with its pictures")]
ELSEWHERE = "beside the work for --service, --dataset and other models"
ResultsOf = Annotated[
    Path | None, typer.Option(help="folder for the results' JSON", show_default=f"experiments/results; {ELSEWHERE}")
]
DocsOf = Annotated[
    Path | None, typer.Option(help="folder for results.md, and results/ with its pictures", show_default=f"docs; {ELSEWHERE}")
]
Url = Annotated[str, typer.Option("--service", metavar="URL", help="do all work through this service, which serves the model")]
Dataset = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="annotated images, all of which are taken; see experiments/evaluation/folder.py"),
]
Networks = Annotated[Path, typer.Option(help="folder of cached features and checkpoints; delete it to start over")]
NETWORKS = Path("runs/networks")
WORK, RESULTS, DOCS = Path("runs/evaluation"), Path("experiments/results"), Path("docs")


class Images(StrEnum):
    """How many images are made."""

    FEW = "few"
    ALL = "all"


@app.command()
def evaluate(
    model: Model = str(MODEL),
    work: Work = WORK,
    processes: Processes = 2,
    url: Url = "",
    dataset: Dataset = None,
    results: ResultsOf = None,
    docs: DocsOf = None,
) -> None:
    """Learn tokens, choose thresholds, measure everything, write results and their page. Goes on where it stopped."""
    plan = plan_of(model, work, scales.FULL, url, dataset)
    through(plan, processes)
    ours = not url and dataset is None and plan.model.resolve() == MODEL.resolve()
    conclude(plan, results or (RESULTS if ours else plan.report / "json"), docs or (DOCS if ours else plan.report))


def plan_of(model: str, work: Path, scale: Scale, url: str, dataset: Path | None) -> Plan:
    """All work of an evaluation, or the end with what cannot be evaluated; a folder's images are taken as they are."""
    try:
        found = models.folder_of(model)
        if dataset:
            scale = scales.scale_of(folder.read(dataset), everything=scale.everything)
        if url:
            service.check_served(url, found, model)
        plan = Plan(found, work, scale, url, dataset, model)
        _ = plan.truth_hash
    except (models.UnknownModelError, folder.BadDataSetError, service.NotServedError, AtlasError) as error:
        end(str(error))
    return plan


def conclude(plan: Plan, results: Path, docs: Path) -> None:
    """Write the results of a plan's work and their page."""
    from experiments.evaluation.report import gallery  # noqa: PLC0415  # other commands need no model

    summary.write(summary.summarise(plan, command()), results)
    summary.write_images(plan.lines(), results / "images.jsonl")
    gallery.draw(plan, docs / "results")
    report(results, docs)


@app.command()
def report(results: Results = RESULTS, docs: Docs = DOCS) -> None:
    """Write the pages and the plots of results that are there."""
    from experiments.evaluation.report import page, plots  # noqa: PLC0415  # plots take a package of the checks

    found = page.read(results)
    plots.draw(found["scores"], docs / "results")
    page.write(found, docs)
    print(f"wrote {docs / 'results.md'} and {docs / 'results' / 'tables.md'}")


@app.command()
def adopt(model: Folder = MODEL, results: Results = RESULTS, docs: Docs = DOCS) -> None:
    """Make the best settings the model's defaults where they beat the paper's on all sets, and write the pages again."""
    try:
        found = defaults.adopt(results, model)
    except defaults.NotMeasuredError as error:
        end(str(error))
    for one in found:
        gains = ", ".join(f"{name} {100 * gain:+.1f}" for name, gain in one.gains.items())
        print(f"{one.field}: {one.best} {'is' if one.better else 'is not'} better than the paper's everywhere ({gains})")
    report(results, docs)


@app.command()
def remedies(
    model: Folder = MODEL,
    work: Work = Path("runs/remedies/lines"),
    results: Results = RESULTS,
    docs: Docs = DOCS,
) -> None:
    """Measure what holds the missed aims back, on few images, and write the pages again. Goes on where it stopped."""
    from experiments import remedies as measure  # noqa: PLC0415  # other commands need no model

    plan = plan_of(str(model), work, scales.QUICK, "", None)
    tasks = measure.tasks(plan.place, work)
    work_through(tasks)
    measure.write(tasks, summary.provenance(plan, command()), results / "remedies.json")
    report(results, docs)


@app.command()
def confidence(
    model: Folder = MODEL,
    work: Work = Path("runs/confidence"),
    results: Results = RESULTS,
    docs: Docs = DOCS,
    images: Annotated[int, typer.Option(min=0, help="of every class and set; 0: what is there is summed up")] = 4,
) -> None:
    """Calibrate how sure masks are, write that to the model's card, and its page. Goes on where it stopped."""
    from experiments import confidence as measure  # noqa: PLC0415  # other commands need no model
    from experiments.evaluation.report import confidence as shown  # noqa: PLC0415  # plots take a package of the checks

    plan = plan_of(str(model), work, scales.FULL, "", None)
    work_through(measure.tasks(plan.place, work, images))
    rows = measure.summed_up(measure.read(work), model)
    found = {"provenance": summary.provenance(plan, command()), "rows": summary.rounded(rows)}
    (results / "confidence.json").write_text(json.dumps(found, indent=1) + "\n")
    measure.adopt(found["rows"], model)
    shown.draw(found["rows"], docs / "method" / "confidence.svg")
    (docs / "results" / "confidence.md").write_text(shown.page(found))
    print(f"wrote {docs / 'results' / 'confidence.md'}, its diagram, and the card of {model}")


@app.command()
def train_grounded_diffusion(
    model: Folder = MODEL,
    work: Networks = NETWORKS,
    split: Annotated[int, typer.Option(min=1, max=3, help="of the classes: five are left out of the training")] = 1,
    examples: Annotated[int, typer.Option(min=8, help="renders that it learns from")] = 1000,
    steps: Annotated[int, typer.Option(min=1, help="of four examples each")] = 6000,
    rate: Annotated[float, typer.Option(min=0, help="learning rate of Adam")] = 3e-4,
    seed: int = 0,
) -> None:
    """Train Grounded Diffusion's grounding module on a model's features. Goes on where it stopped."""
    from experiments.trained import commands  # noqa: PLC0415  # other commands train nothing

    schedule = commands.Schedule(steps, rate, drop=0.8)
    place = work / f"grounded-diffusion-{split}"
    training(lambda: commands.train_grounded_diffusion(model, place, schedule, split=split, examples=examples, seed=seed))


@app.command()
def train_datasetdm(
    model: Folder = MODEL,
    work: Networks = NETWORKS,
    steps: Annotated[int, typer.Option(min=1, help="of four examples each")] = 4000,
    rate: Annotated[float, typer.Option(min=0, help="learning rate of Adam")] = 3e-4,
    seed: int = 0,
    *,
    published: Annotated[bool, typer.Option("--published", help="with the fault of the published training")] = False,
) -> None:
    """Train DatasetDM's perception decoder on a model's features. Goes on where it stopped."""
    from experiments.trained import commands  # noqa: PLC0415  # as above

    schedule = commands.Schedule(steps, rate, drop=0.8)
    training(lambda: commands.train_datasetdm(model, work / "datasetdm", schedule, published=published, seed=seed))


@app.command()
def measure_trained(
    model: Folder = MODEL,
    work: Work = WORK,
    images: Annotated[int, typer.Option(min=1, max=30, help="of each of ten classes and two sets")] = 30,
    processes: Processes = 2,
    results: Results = RESULTS,
    docs: Docs = DOCS,
) -> None:
    """Measure the methods with trained networks beside the others, and write their page. Goes on where it stopped."""
    from experiments.evaluation.report import trained  # noqa: PLC0415  # plots take a package of the checks
    from experiments.trained import measure  # noqa: PLC0415  # other commands need no model

    plan = plan_of(str(model), work, scales.QUICK, "", None)
    found = measure.Measurement(plan, json.loads((results / "scores.json").read_text()), images)
    through(found, processes)
    measure.write(found.tasks(), plan, summary.provenance(plan, command()), results / "trained.json")
    trained.draw(json.loads((results / "trained.json").read_text()), docs / "results" / "classes.png")
    report(results, docs)
    print(f"wrote {docs / 'results' / 'trained.md'}")


def training(train: Callable[[], object]) -> None:
    """Train in one thread, or end with what went wrong."""
    import torch  # noqa: PLC0415  # as above

    from experiments.trained.training import TrainingError  # noqa: PLC0415  # as above

    torch.set_num_threads(1)
    try:
        train()
    except (TrainingError, AtlasError) as error:
        end(str(error))
    except KeyboardInterrupt:
        end("stopped; what is done is kept, the same command goes on")


@app.command()
def quick(
    model: Model = str(MODEL),
    work: Work = WORK,
    processes: Processes = 2,
    url: Url = "",
    dataset: Dataset = None,
    images: Annotated[Images, typer.Option(help="of every set of the bundled world")] = Images.FEW,
) -> None:
    """Measure the published methods and ours on a few images; rows of JSON on standard output."""
    plan = plan_of(model, work, scales.QUICK if images is Images.FEW else scales.HEADLINE, url, dataset)
    through(plan, processes)
    for row in quick_rows(plan):
        print(json.dumps(row))
