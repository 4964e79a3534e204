"""The part of docs/results/trained.md that says why: trained networks asked by other rows, or taught more."""

from collections.abc import Iterator, Mapping, Sequence

from experiments.evaluation.claims import SETS
from experiments.evaluation.report.markdown import NAMES, Results, bounds, difference, figure, listed, percent, table

GROUNDED, PUBLISHED, PERCEIVING = "grounded-diffusion", "datasetdm-published", "datasetdm"
MORE_WORDS, TOKENS_TOO = f"{GROUNDED}, more steps", f"{GROUNDED}, half of them by tokens"
MORE_ALONE, SCENES_TOO = f"{PERCEIVING}, more steps on one thing", f"{PERCEIVING}, as many on one of two things"
WORD, TOKEN, OTHER, MEAN = "the word", "the token", "another class's word", "the mean of all words"
SCALED = "the token, as long as the word"
OF_CLASS, OF_IMAGE = "a row learned for the network", "a row learned from the image itself"
SAME = "the same mask for another class's word"
OTHER_THING, BOTH_THINGS = "the other thing's word", "both things together"
SAME_THINGS = "the masks of the two words"
SHARES = (0.25, 0.5, 0.75)


def share(part: float) -> str:
    """What a row is called that is so far from the word to the token."""
    return f"{100 * part:.0f} % of the way to the token"


ASKED = (WORD, *map(share, SHARES), TOKEN, SCALED, OF_CLASS, OF_IMAGE, MEAN, OTHER)
OF_GROUNDED = {GROUNDED: "as bundled", MORE_WORDS: "taught more by words", TOKENS_TOO: "taught more, half by tokens"}
OF_PERCEIVING = {
    PUBLISHED: "DatasetDM, as published",
    PERCEIVING: "DatasetDM",
    MORE_ALONE: "the same, taught more on images of one thing",
    SCENES_TOO: "the same, taught more to find one of two things",
    GROUNDED: "Grounded Diffusion",
}


def sections(found: Results) -> str:
    """Both questions and their answers: on renders, and on generated images where those were asked about."""
    return (
        "## Why tokens do not help here, and why DatasetDM ignores its text\n\n"
        f"{on_renders(found)}\n{on_images(found) if 'scores' in found else ''}"
    )


def on_renders(found: Results) -> str:
    """What networks find of two things."""
    head = ["asked by, and compared with", *(f"{NAMES[name]}, {one['images']} renders" for name, one in found["renders"].items())]
    lines = [
        [title, *(score(one["scores"].get(what)) for one in found["renders"].values())] for what, title in OF_RENDERS.items()
    ]
    return f"""`{found["provenance"]["command"]}`: renders of two things, with exact masks. Those of Grounded Diffusion are among
the ones that it was trained on; DatasetDM was trained on others, of one thing each. IoU in %, the mean over classes.

{table(head, lines)}
{listed(verdicts(found["renders"]))}"""


OF_RENDERS = {
    WORD: "the thing's word; the thing",
    TOKEN: "its token; the thing",
    OF_IMAGE: "a row that has seen the answer; the thing",
    OTHER_THING: "the word of the other thing; the thing",
    BOTH_THINGS: "the thing's word; both things together",
    SAME_THINGS: "the thing's word; the mask for the other thing's word",
}
"""What was asked and compared on renders, as the table says it."""


def score(found: Results | None) -> str:
    """An IoU with its interval, or nothing."""
    return "" if found is None else f"{percent(found['miou']['value'])} {bounds(found['miou'])}"


def verdicts(renders: Results) -> Iterator[str]:
    """What the figures on renders say of each network."""
    for name, one in renders.items():
        value = {what: found["miou"]["value"] for what, found in one["scores"].items()}
        finds = "all things there are rather than" if value[BOTH_THINGS] > value[WORD] else "rather"
        yield (
            f"{NAMES[name]} finds {finds} the one that it is asked for: its mask has an IoU of {percent(value[WORD])} with the "
            f"thing, of {percent(value[BOTH_THINGS])} with both together, and of {percent(value[SAME_THINGS])} with its mask for "
            f"the other's word. A token changes the former by {100 * (value[TOKEN] - value[WORD]):+.1f}."
        )
        if OF_IMAGE in value:
            yield (
                f"The best row for the very render gives {percent(value[OF_IMAGE])}, the word gives {percent(value[WORD])}: "
                "what lies between is about the most that any token can give this network there."
            )


def on_images(found: Results) -> str:
    """What networks find in generated images by all rows, and after they were taught more."""
    images = " and ".join(f"{count} images of {name}" for name, count in found["images"].items())
    return f"""### In generated images

{images}, the first of the classes of Table 2's columns. *A row learned for the network* is what Grounded Diffusion
itself finds best on two images of each tuning set. *A row learned from the image itself* has seen the answer: it bounds what any
token can give. *Taught more* is a copy of the network after {found["steps"]} further steps; half of them may ask by the tokens of
the fifteen classes that it is trained on.

{rows(found)}
{parts(found)}
{places(found["rows"])}
Networks asked by the class's word, by its token, and by the word of another class; the last two columns say how far the masks of
the right and of the wrong word are the same. A network that reads its text finds little by a wrong word.

{texts(found)}"""


def rows(found: Results) -> str:
    """Grounded Diffusion, asked by all rows."""
    head = ["asked by", *(f"{dataset}, {title}" for title in OF_GROUNDED.values() for dataset in SETS)]
    lines = [[what, *(figure(found, dataset, f"{name} | {what}") for name in OF_GROUNDED for dataset in SETS)] for what in ASKED]
    return table(head, lines)


def parts(found: Results) -> str:
    """What rows give to which images."""
    head = ["images", "of them", WORD, *(f"{what} over it" for what in (TOKEN, OF_CLASS, OF_IMAGE))]
    lines = []
    for dataset in SETS:
        for name, one in found["parts"].get(dataset, {}).items():
            gains = [difference(one[what]) if what in one else "" for what in (TOKEN, OF_CLASS, OF_IMAGE)]
            lines.append([f"{dataset}: {name}", str(one["images"]), percent(one[WORD]), *gains])
    return table(head, lines)


def places(by_class: Mapping[str, Mapping[str, float]]) -> str:
    """Where words and tokens lie, class by class and on the whole."""
    names = list(next(iter(by_class.values())))
    lines = [[each, *(f"{one[name]:.2f}" for name in names)] for each, one in by_class.items()]
    lines.append(["**mean**", *(f"{mean([one[name] for one in by_class.values()]):.2f}" for name in names)])
    return table(["class", *names], lines)


def mean(values: Sequence[float]) -> float:
    """Of some numbers."""
    return sum(values) / len(values)


def texts(found: Results) -> str:
    """What networks find by the right word, by a token, and by a wrong word."""
    asked = (WORD, TOKEN, OTHER, SAME)
    head = ["network", *(f"{dataset}, {what}" for what in asked for dataset in SETS)]
    lines = []
    for name, title in OF_PERCEIVING.items():
        lines.append([title, *(figure(found, dataset, f"{name} | {what}") for what in asked for dataset in SETS)])
    return table(head, lines)
