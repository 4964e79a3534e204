"""Open-vocabulary attention maps: find any text, or a learned token, in a generated image.

`capture` keeps the pixel queries of a generation in a `Trace` (`trace_image` those of a real image). `segment` then finds
any words or learned tokens in it, as often as you like. After "Open-Vocabulary Attention Maps with Token Optimization for
Semantic Segmentation in Diffusion Models", CVPR 2024.

Names are imported when they are first used: importing `ovam`, or its core of settings, words and masks, loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovam.attention.heatmaps import heatmaps, word_heatmap
    from ovam.attention.probe import rank_words
    from ovam.attention.targets import Rows, Words
    from ovam.attention.text import encode, word_tokens
    from ovam.core.crf import dense_crf
    from ovam.core.masks import binarize
    from ovam.core.methods import METHODS, Method
    from ovam.core.pictures import overlay
    from ovam.errors import OvamError
    from ovam.learning.optimization import optimize_tokens
    from ovam.learning.token_files import LearnedTokens
    from ovam.real_images import trace_image
    from ovam.segmentation import Segment, segment
    from ovam.tracing.capture import capture, capture_replay
    from ovam.tracing.replay import Replay
    from ovam.tracing.trace import Trace

__version__ = "0.2.0"

__all__ = [  # noqa: RUF022 - by topic
    # traces
    "capture",
    "trace_image",
    "Trace",
    "capture_replay",
    "Replay",
    # what to look for, and how
    "Words",
    "Rows",
    "LearnedTokens",
    "Method",
    "METHODS",
    # segments and their parts
    "segment",
    "Segment",
    "encode",
    "word_tokens",
    "heatmaps",
    "word_heatmap",
    "binarize",
    "dense_crf",
    "overlay",
    "rank_words",
    # learning
    "optimize_tokens",
    # the rest
    "OvamError",
    "__version__",
]

_HOMES = {
    "capture": "ovam.tracing.capture",
    "trace_image": "ovam.real_images",
    "Trace": "ovam.tracing.trace",
    "capture_replay": "ovam.tracing.capture",
    "Replay": "ovam.tracing.replay",
    "Words": "ovam.attention.targets",
    "Rows": "ovam.attention.targets",
    "LearnedTokens": "ovam.learning.token_files",
    "Method": "ovam.core.methods",
    "METHODS": "ovam.core.methods",
    "segment": "ovam.segmentation",
    "Segment": "ovam.segmentation",
    "encode": "ovam.attention.text",
    "word_tokens": "ovam.attention.text",
    "heatmaps": "ovam.attention.heatmaps",
    "word_heatmap": "ovam.attention.heatmaps",
    "binarize": "ovam.core.masks",
    "dense_crf": "ovam.core.crf",
    "overlay": "ovam.core.pictures",
    "rank_words": "ovam.attention.probe",
    "optimize_tokens": "ovam.learning.optimization",
    "OvamError": "ovam.errors",
}
# Submodules that are used as `ovam.coco` and `ovam.errors`, without an import of their own.
_MODULES = {"coco": "ovam.core.coco", "errors": "ovam.errors"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any of the public names
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(_MODULES[name])
    raise AttributeError(f"module 'ovam' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
