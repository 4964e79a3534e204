"""Finding words in a prompt by their characters, in scripts with and without spaces between words."""

import re
import unicodedata
from functools import lru_cache

from ovam.errors import InvalidArgumentError, WordNotInPromptError

Characters = tuple[int, int]
"""`prompt[start:stop]` of the NFC-normalised prompt."""

UNSPACED = (
    "CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HENTAIGANA", "HALFWIDTH", "BOPOMOFO", "THAI", "LAO",
    "KHMER", "MYANMAR", "TIBETAN", "TAI", "NEW", "JAVANESE", "BALINESE",
)  # fmt: skip
"""First words of the Unicode names of letters in scripts that write words without spaces between them."""
SUFFIXING = ("HANGUL",)
"""The same for scripts that space words but attach particles to their ends."""


DOTLESS = {0x130: "i", 0x131: "i"}
"""Of the Turkish letters i, which are one in searches whatever their case."""


def normalized(text: str) -> str:
    """Return text as prompts and words are compared: in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", text)


def alike(text: str) -> str:
    """Return what texts that differ in case or in Unicode's form alone have in common."""
    return normalized(text).translate(DOTLESS).casefold()


def spans_of(prompt: str, word: str) -> list[Characters]:
    """Return where a word or phrase stands in a prompt, whatever its case; spaces in it match any white space.

    Only whole words match: "car" is not in "scar". In scripts without spaces (Chinese, Japanese, Thai ...) every occurrence
    is a word, and a Korean word may carry a particle.

    Raises `InvalidArgumentError` for a word without any character but spaces.

    >>> spans_of("a cat and a scared cat", "cat"), spans_of("一只猫在草地上", "猫")
    ([(2, 5), (19, 22)], [(2, 3)])
    """
    prompt, parts = normalized(prompt), [re.escape(part) for part in normalized(word).split()]
    if not parts:
        raise InvalidArgumentError("word", word, "at least one character that is not a space")
    found: list[Characters] = []
    # Looked for at every position, since a match that is no whole word may hide one that overlaps it.
    phrase = r"\s+".join(parts)
    for match in re.finditer(f"(?=({phrase}))", prompt, re.IGNORECASE):
        start, stop = match.span(1)
        if whole(prompt, start, stop) and (not found or start >= found[-1][1]):
            found.append((start, stop))
    return found


def occurrences_of(prompt: str, word: str, occurrence: int | None = None) -> list[Characters]:
    """Return where a word stands in a prompt: all places, or with `occurrence` the n-th one, from 0.

    Raises `WordNotInPromptError`, which names the prompt and the word.
    """
    spans = spans_of(prompt, word)
    if not spans:
        raise WordNotInPromptError(f"word {word!r} is not in prompt {prompt!r}")
    if occurrence is None:
        return spans
    if not 0 <= occurrence < len(spans):
        times = "once" if len(spans) == 1 else f"{len(spans)} times"
        message = f"word {word!r} occurs {times} in prompt {prompt!r}; occurrence is {occurrence}, allowed: 0 to {len(spans) - 1}"
        raise WordNotInPromptError(message)
    return [spans[occurrence]]


def words_of(prompt: str) -> list[str]:
    """List the words of a prompt, each once, whatever its case."""
    first: dict[str, str] = {}
    text = normalized(prompt)
    start = 0
    for place, letter in enumerate([*text, " "]):
        if not is_letter(letter):
            if start < place:
                first.setdefault(text[start:place].casefold(), text[start:place])
            start = place + 1
    return list(first.values())


def overlaps(one: Characters, other: Characters) -> bool:
    """Whether two spans share a character."""
    return one[0] < other[1] and other[0] < one[1]


def whole(prompt: str, start: int, stop: int) -> bool:
    """Whether a match neither starts nor ends within a word."""
    before, after = prompt[start - 1 : start], prompt[stop : stop + 1]
    if after and unicodedata.category(after).startswith("M"):  # a mark belongs to the letter before it
        return False
    return not (joined(before, prompt[start]) or joined(prompt[stop - 1], after, suffix=True))


def joined(left: str, right: str, *, suffix: bool = False) -> bool:
    """Whether two neighbouring characters are of one word; with `suffix` the right one may begin a particle."""
    if not (left and right and is_letter(left) and is_letter(right)):
        return False
    scripts = {script_of(left), script_of(right)}
    if scripts & {"unspaced"}:
        return False
    return not (suffix and scripts & {"suffixing"})


def is_letter(character: str) -> bool:
    """Whether a character is part of a word: a letter, a mark on one, or a digit."""
    return unicodedata.category(character)[0] in "LMN"


@lru_cache(maxsize=4096)
def script_of(character: str) -> str:
    """Return how a character's script parts words: "spaced", "unspaced" or "suffixing"."""
    first = unicodedata.name(character, "").partition(" ")[0]
    return "unspaced" if first in UNSPACED else "suffixing" if first in SUFFIXING else "spaced"
