"""Words are found by their characters, in scripts with and without spaces, and never inside another word."""

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovam.core.words import joined, normalized, occurrences_of, overlaps, spans_of, words_of
from ovam.errors import InvalidArgumentError, WordNotInPromptError

FOUND = {
    ("一只猫在草地上", "猫"): ["猫"],
    ("一只猫在草地上", "草地"): ["草地"],
    ("猫が草の上に座っている", "猫"): ["猫"],
    ("赤いスポーツカーと猫", "スポーツカー"): ["スポーツカー"],
    ("赤いスポーツカーと猫", "カー"): ["カー"],
    ("ｽﾎﾟｰﾂｶｰ", "ｶｰ"): ["ｶｰ"],
    ("고양이가 잔디 위에", "고양이"): ["고양이"],
    ("고양이와 고양이는", "고양이"): ["고양이", "고양이"],
    ("กาแฟร้อนบนโต๊ะ", "กาแฟ"): ["กาแฟ"],
    ("กาแฟร้อนบนโต๊ะ", "โต๊ะ"): ["โต๊ะ"],
    ("ແມວຢູ່ເທິງຫຍ້າ", "ແມວ"): ["ແມວ"],
    ("我的iPhone手机", "iPhone"): ["iPhone"],
    ("我的iPhone手机", "手机"): ["手机"],
    ("cat을 보다", "cat"): ["cat"],
    ("3匹の猫", "3"): ["3"],
    ("a cat and a Cat", "CAT"): ["cat", "Cat"],
    ("the dog's hat, a_car!", "dog"): ["dog"],
    ("the dog's hat, a_car!", "car"): ["car"],
    ("hot  dog\nstand", "hot dog stand"): ["hot  dog\nstand"],
    ("a <toy>, a <toy>", "<toy>"): ["<toy>", "<toy>"],
    ("кот и котик", "кот"): ["кот"],
    ("Straße", "straße"): ["Straße"],
    ("caf\u00e9 car", "cafe\u0301"): ["caf\u00e9"],
    ("naïve bücher", "bücher"): ["bücher"],
    ("cat cat cat", "cat cat"): ["cat cat"],
    ("scat cat", "cat"): ["cat"],
    ("a.b c.", "b c."): ["b c."],
    ("猫猫猫", "猫"): ["猫", "猫", "猫"],
    ("猫猫猫", "猫猫"): ["猫猫"],
}
ABSENT = [
    ("a scar", "car"),
    ("cats", "cat"),
    ("cat5", "cat"),
    ("5cat", "cat"),
    ("котик", "кот"),
    ("잔디고양이", "고양이"),  # another word's end
    ("caf\u00e9", "caf"),
    ("हिन्दी", "हिन्द"),  # a vowel sign belongs to the letter before
    ("กาแฟร้อน", "ร"),  # so does a tone mark
    ("a cat", "c.t"),
    ("", "cat"),
]


@pytest.mark.parametrize(("prompt", "word"), FOUND)
def test_a_word_is_found_in_its_script(prompt: str, word: str) -> None:
    assert [normalized(prompt)[start:stop] for start, stop in spans_of(prompt, word)] == FOUND[prompt, word]


@pytest.mark.parametrize(
    "letters", ["人々", "ㄅㄆ", "កខ", "ကခ", "ཀཁ", "ᥐᥑ", "ᦀᦁ", "ꦄꦅ", "ᬅᬆ", "\U0001b002\U0001b003", "กข", "ກຂ"]
)
def test_in_a_script_without_spaces_a_word_may_stand_beside_any_other(letters: str) -> None:
    assert [spans_of(letters, letter) for letter in letters] == [[(0, 1)], [(1, 2)]]


@pytest.mark.parametrize(("prompt", "word"), ABSENT)
def test_a_part_of_another_word_is_not_a_word(prompt: str, word: str) -> None:
    assert spans_of(prompt, word) == []
    with pytest.raises(WordNotInPromptError, match=r"word .* is not in prompt"):
        occurrences_of(prompt, word)


def test_occurrences_are_counted_from_0() -> None:
    assert occurrences_of("a cat, a cat", "cat", 1) == [(9, 12)]
    assert occurrences_of("a cat, a cat", "cat") == [(2, 5), (9, 12)]
    for occurrence, prompt, times in ((2, "cat cat", "2 times"), (-1, "cat cat", "2 times"), (1, "cat", "once")):
        message = rf"word 'cat' occurs {times} in prompt '{prompt}'; occurrence is {occurrence}, allowed: 0 to"
        with pytest.raises(WordNotInPromptError, match=message):
            occurrences_of(prompt, "cat", occurrence)


@pytest.mark.parametrize("word", ["", " ", "\n\t"])
def test_an_empty_word_is_refused(word: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^word is .*at least one character"):
        spans_of("a cat", word)


def test_words_of_a_prompt_are_listed_once() -> None:
    assert words_of("A cat, a dog's cat & 2 cafés_bars") == ["A", "cat", "dog", "s", "2", "cafés", "bars"]
    assert words_of("高いビル and 猫") == ["高いビル", "and", "猫"]
    assert words_of("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert words_of(" ,. ") == []


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=12), st.text(max_size=3))
def test_what_is_found_is_the_word_and_does_not_overlap(prompt: str, word: str) -> None:
    if not normalized(word).split():
        return
    spans = spans_of(prompt, word)
    for start, stop in spans:
        found = normalized(prompt)[start:stop]
        assert len(found.split()) == len(normalized(word).split())
    for one, other in itertools.pairwise(spans):
        assert not overlaps(one, other)
        assert one[1] <= other[0]


@given(st.text(max_size=20))
def test_every_word_of_a_prompt_is_found_in_it(prompt: str) -> None:
    for word in words_of(prompt):
        assert unicodedata.is_normalized("NFC", word)
        assert spans_of(prompt, word)


def test_spans_overlap_where_they_share_a_character() -> None:
    assert overlaps((0, 3), (2, 5))
    assert overlaps((2, 3), (0, 9))
    assert not overlaps((0, 3), (3, 5))
    assert not overlaps((3, 5), (0, 3))
    assert not joined("", "a")
    assert not joined("a", "")
