"""The gateway and the method agree on what is in a prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from contracts.schema.errors import Code, ServiceError
from ovam.attention.text import Token, word_tokens
from ovam.errors import OvamError
from service.prompts import Prompt, check_word, fitting, sentence_of, tokenized
from tests.pipelines import tiny_tokenizer

CLIP = tiny_tokenizer()
TOKENIZER = Tokenizer.from_str(CLIP.backend_tokenizer.to_str())
PROMPTS = [
    ("a photograph of a car", "car", None, True),
    ("a photograph of a CAR", "car", None, True),
    ("a scar", "car", None, False),
    ("cars", "car", None, False),
    ("a car, a car", "car", 1, True),
    ("a car, a car", "car", 2, False),
    ("a monkey with  hat", "with hat", None, True),
    ("a cafe\u0301", "caf\u00e9", None, True),
    ("e\u0301 a b", "b", None, True),  # behind a character of two
    ("a car_park", "car", None, True),
    ("t-shirt", "shirt", None, True),
    ("100%", "%", None, True),
    ("一只猫在草地上", "猫", None, True),
    ("草地上的猫", "狗", None, False),
    ("แมวบนหญ้า", "แมว", None, True),
    ("고양이가 있다", "고양이", None, True),
    ("a (car)", "(car)", None, True),
    ("a c.r", "c.r", None, True),
    ("a car", "c.r", None, False),
]


def tokens_of(prompt: Prompt) -> tuple[Token, ...]:
    return tuple(Token(place, prompt.text[start:stop], (start, stop)) for place, (start, stop) in enumerate(prompt.tokens))


def found_by_gateway(prompt: Prompt, word: str, occurrence: int | None) -> bool:
    try:
        check_word(prompt, word, occurrence, field="targets.0.word")
    except ServiceError as error:
        assert (error.code, error.field, error.value) == (Code.WORD_NOT_IN_PROMPT, "targets.0.word", word)  # noqa: PT017
        return False
    return True


def found_by_method(prompt: Prompt, word: str, occurrence: int | None) -> bool:
    try:
        return bool(word_tokens(tokens_of(prompt), prompt.text, word, occurrence=occurrence))
    except OvamError:
        return False


@pytest.mark.parametrize(("text", "word", "occurrence", "expected"), PROMPTS)
def test_words_are_found_by_their_characters(
    text: str,
    word: str,
    occurrence: int | None,
    expected: bool,  # noqa: FBT001  # a known answer
) -> None:
    prompt = tokenized(TOKENIZER, text)
    assert found_by_gateway(prompt, word, occurrence) is expected
    assert found_by_method(prompt, word, occurrence) is expected


TEXTS = st.text(st.sampled_from("猫がac.- rR_é\u0301ß\u0130İ\x1c\u3000"), min_size=1, max_size=12)


@given(TEXTS, TEXTS.filter(str.strip), st.none() | st.integers(0, 3))
def test_gateway_and_method_agree_on_every_word(text: str, word: str, occurrence: int | None) -> None:
    prompt = tokenized(TOKENIZER, text)
    assert found_by_gateway(prompt, word, occurrence) == found_by_method(prompt, word, occurrence)


@given(TEXTS)
def test_gateway_and_method_count_the_same_tokens(text: str) -> None:
    prompt = tokenized(TOKENIZER, text)
    assert prompt.length == len(CLIP(prompt.text)["input_ids"])


def test_a_prompt_over_the_limit_is_refused_with_its_length() -> None:
    with pytest.raises(ServiceError, match="7 tokens") as caught:
        fitting(TOKENIZER, "a photograph of a car", 6, field="prompt")
    assert caught.value.code is Code.PROMPT_TOO_LONG


def test_a_word_that_the_tokenizer_drops_is_not_there() -> None:
    prompt = Prompt("a car", 4, ((0, 1),))
    assert prompt.has("a")
    assert not prompt.has("car")
    with pytest.raises(ServiceError, match="'car' of prompt 'a car' has no token"):
        check_word(prompt, "car", field="word")


def test_words_without_a_prompt_are_put_into_a_sentence() -> None:
    assert sentence_of("car") == "a photograph of a car"
    assert sentence_of("car", "red bus") == "a photograph of a car, a red bus"
