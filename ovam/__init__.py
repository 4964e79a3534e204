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
from ovam.heatmaps import SplitHeatmaps, heatmaps, split_heatmaps, word_heatmap
from ovam.images import trace_image
from ovam.masks import binarize, fill_holes, remove_small, score, weighed
from ovam.methods import METHODS, SOURCES, Method, method
from ovam.probe import RankedWord, rank_words
from ovam.pseudo_masks import cut, lead, mask_of, refined
from ovam.refine import affinity, attention_received
from ovam.schedules import Constant, Cosine, StepDecay
from ovam.semantic import indexed_png, instances, labels_of, read_indexed_png, semantic_map, voc_palette
from ovam.targets import Rows, Words, rows_of, split_target_heatmaps, target_heatmap, target_heatmaps
from ovam.text import Token, encode, encode_each, word_tokens
from ovam.thresholds import Absolute, Otsu, ShareOfMaximum
from ovam.token_files import LearnedTokens
from ovam.tokens import TokenFit, initial_tokens, optimize_tokens
from ovam.trace import Block, SelfAttention, Trace

__all__ = [
    "METHODS",
    "SOURCES",
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
    "Rows",
    "SelfAttention",
    "ShareOfMaximum",
    "SplitHeatmaps",
    "StepDecay",
    "Token",
    "TokenFit",
    "Trace",
    "Words",
    "affinity",
    "attention_received",
    "binarize",
    "capture",
    "coco",
    "cut",
    "dense_crf",
    "encode",
    "encode_each",
    "errors",
    "fill_holes",
    "heatmaps",
    "indexed_png",
    "initial_tokens",
    "instances",
    "labels_of",
    "lead",
    "mask_of",
    "method",
    "optimize_tokens",
    "rank_words",
    "read_indexed_png",
    "refined",
    "remove_small",
    "rows_of",
    "score",
    "semantic",
    "semantic_map",
    "split_heatmaps",
    "split_target_heatmaps",
    "target_heatmap",
    "target_heatmaps",
    "token_files",
    "trace_image",
    "voc_palette",
    "weighed",
    "word_heatmap",
    "word_tokens",
]
