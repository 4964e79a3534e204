"""FLUX.2 reads prompts in a chat: words are found in it, and rows are those of its language model."""

import pytest
import torch

import ovam
from ovam.attention.chats import chat_of
from ovam.errors import CaptureError, InvalidArgumentError, PromptTooLongError
from tests.diffusion_transformers import draw, tiny_transformer
from tests.families import picture

every_chat = pytest.mark.parametrize("name", ["flux2", "flux2-klein"])
PROMPT = "a dog and a cat"  # the system's message and what follows the prompt have an "a", too


@every_chat
def test_rows_are_the_pipelines_own_and_words_are_those_of_the_prompt(name: str) -> None:
    pipeline = tiny_transformer(name)
    whole, every = ovam.encode(pipeline, PROMPT, padding="max_length", max_sequence_length=40)
    rows, tokens = ovam.encode(pipeline, PROMPT, max_sequence_length=40)
    with torch.no_grad():
        assert torch.equal(whole, pipeline.encode_prompt(PROMPT, max_sequence_length=40)[0][0])
    assert len(every) == 40
    assert [token.text for token in every if token.span and token.text] == ["a", "dog", "and", "a", "cat"]
    own = [number for number, token in enumerate(every) if token.span is not None]
    first = next(number for number, token in enumerate(every) if token.text == "<|user|>")
    after = 2 if name == "flux2-klein" else 1  # what the chat ends with
    assert torch.equal(rows, whole[[first, *own, *range(own[-1] + 1, own[-1] + 1 + after)]])
    assert [PROMPT[slice(*token.span)] for token in ovam.word_tokens(tokens, PROMPT, "cat") if token.span] == ["cat"]


@every_chat
def test_a_prompt_that_the_chat_cuts_or_changes_is_refused(name: str) -> None:
    pipeline = tiny_transformer(name)
    with pytest.raises(PromptTooLongError, match="with its chat; allowed: 40"):
        ovam.encode(pipeline, "cat " * 20, max_sequence_length=40)
    chat = chat_of(pipeline)
    needed = sum(own for _, _, own in chat.tokens(PROMPT, 40)) + len(chat.tokenizer(chat.before, add_special_tokens=False)[0]) - 1
    assert len(chat.tokens(PROMPT, needed)) == needed
    with pytest.raises(PromptTooLongError, match=f"has {needed} tokens"):
        chat.tokens(PROMPT, needed - 1)
    if name == "flux2":
        with pytest.raises(InvalidArgumentError, match="template"):
            chat_of(pipeline).tokens("a [IMG] cat", 40)


def test_reference_images_are_no_pixels_of_the_image() -> None:
    pipeline = tiny_transformer("flux2")
    with pytest.raises(CaptureError, match="reference images"), ovam.capture(pipeline):
        draw(pipeline, "flux2", PROMPT, image=picture(64, 64))
