"""Open-vocabulary attention maps: find any text, or a learned token, in a generated image.

Phase one, costly: `capture` keeps the pixel queries of a generation in a `Trace`. Phase two, cheap and
repeatable: `heatmaps` and `word_heatmap` attribute any text to the pixels, `binarize` and `dense_crf` make
masks of it, and `optimize_tokens` learns tokens from masks. After "Open-Vocabulary Attention Maps with
Token Optimization for Semantic Segmentation in Diffusion Models", CVPR 2024.
"""

from ovam import coco, errors
from ovam.capture import capture
from ovam.crf import CrfParameters, dense_crf
from ovam.errors import OvamError
from ovam.heatmaps import heatmaps, word_heatmap
from ovam.masks import binarize, score
from ovam.methods import METHODS, Method
from ovam.text import Token, encode, word_tokens
from ovam.tokens import TokenFit, initial_tokens, optimize_tokens
from ovam.trace import Block, SelfAttention, Trace

__all__ = [
    "METHODS",
    "Block",
    "CrfParameters",
    "Method",
    "OvamError",
    "SelfAttention",
    "Token",
    "TokenFit",
    "Trace",
    "binarize",
    "capture",
    "coco",
    "dense_crf",
    "encode",
    "errors",
    "heatmaps",
    "initial_tokens",
    "optimize_tokens",
    "score",
    "word_heatmap",
    "word_tokens",
]
