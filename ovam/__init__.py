"""Open-vocabulary attention maps: find any text, or a learned token, in a generated image.

Phase one, costly: `capture` keeps the pixel queries of a generation in a `Trace`, `trace_image` those of a real
image. Phase two, cheap and repeatable: `heatmaps` and `word_heatmap` attribute any text to the pixels,
`rank_words` the words to a place, `binarize` and `dense_crf` make masks of it, and `optimize_tokens` learns
tokens from masks. After "Open-Vocabulary Attention Maps with
Token Optimization for Semantic Segmentation in Diffusion Models", CVPR 2024.
"""

from ovam import coco, errors, semantic, token_files
from ovam.capture import capture
from ovam.crf import CrfParameters, dense_crf
from ovam.errors import OvamError
from ovam.heatmaps import heatmaps, word_heatmap
from ovam.images import trace_image
from ovam.masks import binarize, fill_holes, remove_small, score, weighed
from ovam.methods import METHODS, Method, cut, mask_of, method
from ovam.probe import RankedWord, rank_words
from ovam.refine import affinity, attention_received
from ovam.schedules import Constant, Cosine, StepDecay
from ovam.semantic import indexed_png, instances, read_indexed_png, semantic_map, voc_palette
from ovam.text import Token, encode, word_tokens
from ovam.thresholds import Absolute, Otsu, ShareOfMaximum
from ovam.token_files import LearnedTokens
from ovam.tokens import TokenFit, initial_tokens, optimize_tokens
from ovam.trace import Block, SelfAttention, Trace

__all__ = [
    "METHODS",
    "Absolute",
    "Block",
    "Constant",
    "Cosine",
    "CrfParameters",
    "LearnedTokens",
    "Method",
    "Otsu",
    "OvamError",
    "RankedWord",
    "SelfAttention",
    "ShareOfMaximum",
    "StepDecay",
    "Token",
    "TokenFit",
    "Trace",
    "affinity",
    "attention_received",
    "binarize",
    "capture",
    "coco",
    "cut",
    "dense_crf",
    "encode",
    "errors",
    "fill_holes",
    "heatmaps",
    "indexed_png",
    "initial_tokens",
    "instances",
    "mask_of",
    "method",
    "optimize_tokens",
    "rank_words",
    "read_indexed_png",
    "remove_small",
    "score",
    "semantic",
    "semantic_map",
    "token_files",
    "trace_image",
    "voc_palette",
    "weighed",
    "word_heatmap",
    "word_tokens",
]
