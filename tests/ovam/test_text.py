"""Words are found by their characters, and nothing is cut or guessed in silence."""

import pytest
import torch
from diffusers import StableDiffusionPipeline

import ovam
from ovam.errors import InvalidArgumentError, PromptTooLongError, UnsupportedModelError, WordNotInPromptError
from tests.families import FAMILIES, tiny_family


def indices(pipeline: StableDiffusionPipeline, prompt: str, word: str, occurrence: int | None = None) -> list[int]:
    _, tokens = ovam.encode(pipeline, prompt)
    return [token.index for token in ovam.word_tokens(tokens, prompt, word, occurrence=occurrence)]


def test_tokens_tell_their_place_in_the_prompt(pipeline: StableDiffusionPipeline) -> None:
    prompt = "A photograph of a  cat"
    embedding, tokens = ovam.encode(pipeline, prompt)
    assert embedding.shape == (7, 32)
    assert [token.text for token in tokens[1:-1]] == ["A", "photograph", "of", "a", "cat"]
    assert tokens[5].span == (19, 22)
    assert [token.index for token in tokens] == list(range(7))
    assert (tokens[0].text, tokens[0].span) == ("<|startoftext|>", None)
    assert (tokens[-1].text, tokens[-1].span) == ("<|endoftext|>", None)


def test_padded_text_is_what_generation_is_conditioned_on(pipeline: StableDiffusionPipeline) -> None:
    embedding, tokens = ovam.encode(pipeline, "a cat on a tree", padding="max_length")
    conditioning, _ = pipeline.encode_prompt("a cat on a tree", torch.device("cpu"), 1, do_classifier_free_guidance=False)
    assert torch.equal(embedding, conditioning[0])
    assert len(tokens) == 77


def test_unpadded_text_is_the_beginning_of_the_padded(pipeline: StableDiffusionPipeline) -> None:
    short, tokens = ovam.encode(pipeline, "a cat on a tree")
    long, _ = ovam.encode(pipeline, "a cat on a tree", padding="max_length")
    assert len(tokens) == 7
    assert torch.allclose(short, long[:7], atol=1e-5)


def test_an_empty_prompt_has_its_start_and_end(pipeline: StableDiffusionPipeline) -> None:
    embedding, tokens = ovam.encode(pipeline, "")
    assert embedding.shape == (2, 32)
    assert [token.span for token in tokens] == [None, None]


def test_all_occurrences_of_a_word_count_or_the_nth(pipeline: StableDiffusionPipeline) -> None:
    prompt = "a cat and a Cat and a dog"
    assert indices(pipeline, prompt, "cat") == [2, 5]
    assert indices(pipeline, prompt, "cat", 0) == [2]
    assert indices(pipeline, prompt, "CAT", 1) == [5]
    assert indices(pipeline, prompt, "dog") == [8]


@pytest.mark.parametrize("occurrence", [2, -1])
def test_an_occurrence_that_is_not_there_is_named(pipeline: StableDiffusionPipeline, occurrence: int) -> None:
    with pytest.raises(
        WordNotInPromptError,
        match=rf"'cat' occurs 2 times in prompt 'a cat and a cat'; occurrence is {occurrence}, allowed: 0 to 1",
    ):
        indices(pipeline, "a cat and a cat", "cat", occurrence)


@pytest.mark.parametrize("word", ["dog", "at", "ca", "cats"])
def test_a_word_that_is_not_in_the_prompt_is_named_with_the_prompt(pipeline: StableDiffusionPipeline, word: str) -> None:
    with pytest.raises(WordNotInPromptError, match=f"'{word}' is not in prompt 'a cat'"):
        indices(pipeline, "a cat", word)


def test_a_word_inside_another_word_is_another_word(pipeline: StableDiffusionPipeline) -> None:
    assert indices(pipeline, "a scar on a car", "car") == [len(indices(pipeline, "scar", "scar")) + 4]


def test_a_word_of_several_pieces_has_all_of_them(pipeline: StableDiffusionPipeline) -> None:
    assert indices(pipeline, "a monkey with a hat", "monkey") == [2, 3, 4, 5, 6]


def test_a_phrase_has_all_of_its_words(pipeline: StableDiffusionPipeline) -> None:
    assert indices(pipeline, "a dog  with a\nhat on", "dog with a hat") == [2, 3, 4, 5]


def test_words_beside_punctuation_and_accents_are_found(pipeline: StableDiffusionPipeline) -> None:
    assert indices(pipeline, "the dog's hat, a_car!", "dog") == [2]
    assert indices(pipeline, "the cat,a dog", "cat") == [2]
    composed, decomposed = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"
    assert indices(pipeline, f"a {decomposed} car", composed) == indices(pipeline, f"a {composed} car", decomposed)
    assert ovam.encode(pipeline, f"a {decomposed} car")[1][-2].text == "car"
    assert indices(pipeline, f"a {decomposed} car", "car") == [len(indices(pipeline, composed, composed)) + 2]


def test_a_prompt_beyond_the_encoders_limit_is_an_error_with_counts(pipeline: StableDiffusionPipeline) -> None:
    embedding, _ = ovam.encode(pipeline, "cat " * 75)
    assert len(embedding) == 77
    for padding in ("none", "max_length"):
        with pytest.raises(PromptTooLongError, match=r"78 tokens.*allowed: 77"):
            ovam.encode(pipeline, "cat " * 76, padding=padding)


def test_an_empty_word_is_refused(pipeline: StableDiffusionPipeline) -> None:
    with pytest.raises(InvalidArgumentError, match="word"):
        indices(pipeline, "a cat", "  ")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_encodes_as_its_own_pipeline_does(family: str) -> None:
    other = tiny_family(family)
    conditioning = other.encode_prompt(
        "a cat on a tree", device=torch.device("cpu"), num_images_per_prompt=1, do_classifier_free_guidance=False
    )[0]
    embedding, tokens = ovam.encode(other, "a cat on a tree", padding="max_length")
    short, _ = ovam.encode(other, "a cat on a tree")
    assert torch.equal(embedding, conditioning[0])
    assert torch.allclose(short, embedding[:7], atol=1e-5)
    assert [token.text for token in tokens[1:6]] == ["a", "cat", "on", "a", "tree"]


def test_a_pipeline_with_only_the_second_encoder_uses_its_tokenizer() -> None:
    refiner = tiny_family("sdxl-img2img")
    both, _ = ovam.encode(refiner, "a cat")
    refiner.text_encoder = refiner.tokenizer = None
    alone, tokens = ovam.encode(refiner, "a cat")
    assert torch.equal(alone, both[:, 32:])
    assert [token.text for token in tokens[1:-1]] == ["a", "cat"]


def test_other_text_encoders_and_tokenizers_that_disagree_are_refused() -> None:
    foreign = tiny_family("sdxl")
    foreign.tokenizer_2.add_tokens(["monkey"])
    with pytest.raises(
        InvalidArgumentError, match=r"prompt is 'monkey'; allowed: what both tokenizers cut alike, not into \[3, 7\]"
    ):
        ovam.encode(foreign, "monkey")
    foreign.text_encoder_2.config.model_type = "t5"
    with pytest.raises(UnsupportedModelError, match="CLIP text encoders"):
        ovam.encode(foreign, "a cat")


def test_a_tokenizer_that_tells_no_places_is_refused() -> None:
    pipeline = tiny_family("sd1")
    kind = type(pipeline.tokenizer)
    pipeline.tokenizer.__class__ = type("SlowTokenizer", (kind,), {"is_fast": False})
    with pytest.raises(UnsupportedModelError, match="tokenizers that return offsets"):
        ovam.encode(pipeline, "a cat")
