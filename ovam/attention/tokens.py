"""The tokens of a prompt, and the rows of its embedding that they stand for."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Token:
    """One row of an embedding and the piece of the prompt it encodes."""

    index: int
    """Row in the embedding."""
    text: str
    """The characters of the prompt; for a start, end or padding token its name."""
    span: tuple[int, int] | None
    """`prompt[start:stop]` of the NFC-normalised prompt; `None` for a start, end or padding token."""


Encoded = tuple[Float[Tensor, "_ text_width"], tuple[Token, ...]]
"""A prompt's embedding, and the token of each of its rows."""
