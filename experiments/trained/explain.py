"""The command that asks why tokens do not help Grounded Diffusion as in the paper, and why DatasetDM ignores its text."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from experiments.bundled import MODEL
from experiments.console import command, end

app = typer.Typer()


@app.command()
def explain_trained(
    model: Annotated[Path, typer.Option(exists=True, file_okay=False, help="the pipeline")] = MODEL,
    work: Annotated[Path, typer.Option(help="folder for what is under way, tokens among it")] = Path("runs/evaluation"),
    networks: Annotated[Path, typer.Option(help="folder of cached features")] = Path("runs/networks"),
    images: Annotated[int, typer.Option(min=0, help="of each of ten classes and two sets; 0: renders alone")] = 2,
    results: Annotated[Path, typer.Option(help="folder for the results' JSON")] = Path("experiments/results"),
    docs: Annotated[Path, typer.Option(help="folder for results/trained.md")] = Path("docs"),
) -> None:
    """Ask the trained networks by other rows than words, teach them more, and add to their page. Goes on where it stopped."""
    import torch  # noqa: PLC0415  # other commands need no model

    from experiments.evaluation import paper, scales, summary  # noqa: PLC0415  # as above
    from experiments.evaluation.report import page  # noqa: PLC0415  # as above
    from experiments.evaluation.stages import Plan  # noqa: PLC0415  # as above
    from experiments.evaluation.tasks import Task, work_through  # noqa: PLC0415  # as above
    from experiments.trained import asked, reasons, taught  # noqa: PLC0415  # as above
    from experiments.world.atlas import AtlasError  # noqa: PLC0415  # as above

    torch.set_num_threads(1)
    plan = Plan(model, work, scales.HEADLINE)
    try:
        source = summary.provenance(plan, command())
    except AtlasError as error:
        end(str(error))
    work_through(plan.learning())
    place = plan.folder_of_networks("explained", taught.SCHEDULE)
    workshop = taught.Workshop(networks, place, tuple(task.path for task in plan.learning()))
    ask = partial(asked.of_class, plan.place, workshop, images=images, examples=images)
    renders = Task(place / "renders.jsonl", 1, partial(asked.of_renders, plan.place, workshop))
    tasks = [Task(place / f"{name}-{images}.jsonl", 1, partial(ask, name)) for name in paper.CLASSES if images]
    work_through([renders])
    work_through(tasks)
    found = {"provenance": source, "steps": taught.SCHEDULE.steps, "renders": reasons.of_renders(renders.path)}
    found |= reasons.summed_up([task.path for task in tasks]) if images else {}
    summary.write({"explained": found}, results)
    everything = page.read(results)
    page.write(everything, docs)
    print(f"wrote {results / 'explained.json'} and {docs / 'results' / 'trained.md'}")
