"""The tokenizer and the text encoder of the bundled model."""

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from experiments.world.captions import vocabulary

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 40  # tokens of a padded prompt
WIDTH = 192  # of a token's embedding
LAYERS = 2  # few, so that a word's state stays its own


def new_tokenizer(words: Iterable[str] | None = None) -> CLIPTokenizer:
    """CLIP's tokenizer with byte-pair merges that make each word of the world's captions one token."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trainer = trainers.BpeTrainer(
        vocab_size=8192,
        min_frequency=1,
        end_of_word_suffix="</w>",
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(vocabulary() if words is None else words, trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    return CLIPTokenizer(vocab=tokens(merges), merges=merges, model_max_length=LENGTH)


def tokens(merges: list[tuple[str, str]]) -> dict[str, int]:
    """CLIP's order: characters, characters that end a word, merged pieces, the two markers."""
    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*characters, *(f"{c}</w>" for c in characters), *(left + right for left, right in merges), START, END]
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder; it learns together with the UNet."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=6,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
