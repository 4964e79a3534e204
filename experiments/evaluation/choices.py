"""What a user has to choose, as questions that a difference on the same images answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.evaluation.asking import VOCABULARY
from experiments.evaluation.recipes import COUNTS, FINE, ONE_IMAGE, PUBLISHED_RECIPE, UNCONDITIONAL
from experiments.evaluation.settings import key

Results = Mapping[str, Any]
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
    for asked in ("words", PUBLISHED_RECIPE):
        yield Question(f"{about}, for {asked}", first, second, key(names[0], asked), key(names[1], asked))


QUESTIONS: tuple[Question, ...] = (
    Question("what to ask for", "a learned token", "the word", key(WHOLE, PUBLISHED_RECIPE), key(WHOLE, "words")),
    *of_words_and_tokens("`refine`", "affinity", "none", ("affinity 1", "min-max")),
    *of_words_and_tokens("`refine`", "both", "affinity", (f"attention + {WHOLE}", WHOLE)),
    *of_words_and_tokens("`affinity_steps`", "2", "1", ("affinity 2", "affinity 1")),
    *of_words_and_tokens("`crf`", "on", "off", (WHOLE, "affinity 1")),
    *of_words_and_tokens("`normalize`", "minmax", "max", ("affinity 1", "affinity 1, share of the maximum")),
    Question("`padding`", "none", "max_length", key("daam", "words"), key("daam", "words, padded")),
    Question("`capture.half`", "conditional", "unconditional", key("daam", "words"), key("unconditional half", "words")),
    Question(
        "`capture.half`, for tokens learned of it",
        "conditional",
        "unconditional",
        key("daam", ONE_IMAGE),
        key("unconditional half", UNCONDITIONAL),
    ),
    Question(
        "the sentence around the word", "a photograph of a ...", "none", key("min-max", "words"), key("min-max", "word alone")
    ),
    Question("the classes' words", "all in one softmax", "each alone", key(WHOLE, VOCABULARY), key(WHOLE, "words")),
    Question("the optimiser", "SGD, 500 epochs", "Adam, 60 epochs", key(WHOLE, PUBLISHED_RECIPE), key(WHOLE, ONE_IMAGE)),
    Question("`blocks`, also to learn", "the finest", "all", key("affinity 1, finest", FINE), key("affinity 1", ONE_IMAGE)),
    Question("annotated images a class", "8", "1", key(WHOLE, COUNTS[8]), key(WHOLE, ONE_IMAGE)),
    Question("what to annotate", "one object", "a scene", key(WHOLE, ONE_IMAGE), key(WHOLE, "tokens of a scene")),
    Question("the classes' tokens", "one by one", "jointly", key("affinity 1", ONE_IMAGE), key("affinity 1", "joint tokens")),
    Question(
        "the classes' tokens, learned of 8 scenes and of 2",
        "one by one",
        "jointly",
        key("affinity 1", "tokens of 8 scenes"),
        key("affinity 1", "joint tokens of 2 scenes"),
    ),
)


def answer(question: Question, verdicts: Mapping[str, float]) -> str:
    """What to choose, by the difference on every set; 0 where its interval does not exclude 0."""
    for_first = [name for name, difference in verdicts.items() if difference > 0]
    for_second = [name for name, difference in verdicts.items() if difference < 0]
    if not for_first and not for_second:
        return "either"
    if not for_second or not for_first:
        return question.first if for_first else question.second
    return f"{question.first} for {', '.join(for_first)}; {question.second} for {', '.join(for_second)}"
