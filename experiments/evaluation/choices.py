"""What a user has to choose, as questions that a difference on the same images answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from experiments.evaluation.recipes import COUNTS, FINE, JOINT, ONE_IMAGE, ONE_SCENE, PUBLISHED_RECIPE
from experiments.evaluation.settings import key
from experiments.evaluation.targets import AGAINST_ALL, AGAINST_SCENE, PADDED, TOKENS_AGAINST_ALL, WORDS

WHOLE = "affinity 1 + dCRF"


@dataclass(frozen=True)
class Question:
    """Two answers, and the settings whose difference decides between them."""

    about: str
    first: str
    second: str
    better: str
    """The key of a setting with the first answer."""
    worse: str


def of_words_and_tokens(about: str, first: str, second: str, names: tuple[str, str]) -> Iterator[Question]:
    """The same question for words and for learned tokens."""
    for target in (WORDS, PUBLISHED_RECIPE):
        yield Question(f"{about}, for {target}", first, second, key(names[0], target), key(names[1], target))


QUESTIONS: tuple[Question, ...] = (
    Question("target", "a learned token", "the word", key(WHOLE, PUBLISHED_RECIPE), key(WHOLE, WORDS)),
    *of_words_and_tokens("`refine`", "affinity", "none", ("affinity 1", "min-max")),
    *of_words_and_tokens("`refine`", "both", "affinity", (f"attention + {WHOLE}", WHOLE)),
    *of_words_and_tokens("`refine.steps`", "2", "1", ("affinity 2", "affinity 1")),
    *of_words_and_tokens("`crf`", "on", "off", (WHOLE, "affinity 1")),
    *of_words_and_tokens("`threshold.normalize`", "minmax", "max", ("affinity 1", "affinity 1, share of the maximum")),
    Question("`padding`", "none", "max_length", key("daam", WORDS), key("daam", PADDED)),
    Question(
        "the sentence around the word", "a photograph of a ...", "none", key("min-max", WORDS), key("min-max", "word alone")
    ),
    Question("`softmax`", "together with the scene's words", "each", key(WHOLE, AGAINST_SCENE), key(WHOLE, WORDS)),
    Question("`softmax`", "together with all classes' words", "each", key(WHOLE, AGAINST_ALL), key(WHOLE, WORDS)),
    Question(
        "`softmax`, for tokens", "together with all classes' tokens", "each",
        key(WHOLE, TOKENS_AGAINST_ALL), key(WHOLE, PUBLISHED_RECIPE),
    ),
    Question("`optimizer`", "SGD, 500 epochs", "Adam, 60 epochs", key(WHOLE, PUBLISHED_RECIPE), key(WHOLE, ONE_IMAGE)),
    Question("`blocks`, also to learn", "the finest", "all", key("affinity 1, finest", FINE), key("affinity 1", ONE_IMAGE)),
    Question("annotated images a class", "8", "1", key(WHOLE, COUNTS[8]), key(WHOLE, ONE_IMAGE)),
    Question("what to annotate", "one object", "a scene", key(WHOLE, ONE_IMAGE), key(WHOLE, ONE_SCENE)),
    Question("the classes' tokens", "one by one", "jointly", key("affinity 1", ONE_IMAGE), key("affinity 1", JOINT)),
)  # fmt: skip


def answer(question: Question, differences: Mapping[str, float]) -> str:
    """What to choose, by the difference on every set; 0 where its interval does not exclude 0."""
    for_first = [name for name, difference in differences.items() if difference > 0]
    for_second = [name for name, difference in differences.items() if difference < 0]
    if not for_first and not for_second:
        return "either"
    if not for_second or not for_first:
        return question.first if for_first else question.second
    return f"{question.first} for {', '.join(for_first)}; {question.second} for {', '.join(for_second)}"
