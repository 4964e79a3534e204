"""CLIP: how well an image fits some texts, by which data sets are filtered. Loaded when it is first needed."""

import logging
from functools import cache, lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch.nn.functional import normalize
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from contracts.schema.errors import Code, ServiceError

TEXTS_KEPT = 1024  # embeddings of texts, which are the same for all images of a data set

log = logging.getLogger(__name__)


class Clip:
    """A CLIP model by hub id or folder. Only the device's thread calls it."""

    def __init__(self, source: str, device: torch.device) -> None:
        self.source = source
        self.device = device
        self.parts = cache(self._loaded)
        self.embedded = lru_cache(TEXTS_KEPT)(self._embedded)

    @torch.inference_mode()
    def cosines(self, image: UInt8[np.ndarray, "height width 3"], texts: list[str]) -> tuple[list[float], float]:
        """Return the cosine between an image and each text, -1..1, and the model's own factor of cosines before a softmax."""
        model, _, processor = self.parts()
        pixels = processor(Image.fromarray(image), return_tensors="pt")["pixel_values"].to(self.device)
        seen = normalize(features(model.get_image_features(pixels)), dim=-1)
        cosines = torch.cat([self.embedded(text) for text in texts]) @ seen[0]
        return cosines.tolist(), float(model.logit_scale.exp())

    def _embedded(self, text: str) -> Float[torch.Tensor, "1 width"]:
        """A text's direction; one that is too long is cut."""
        model, tokenizer, _ = self.parts()
        tokens = tokenizer([text], truncation=True, return_tensors="pt").to(self.device)
        return normalize(features(model.get_text_features(tokens["input_ids"], tokens["attention_mask"])), dim=-1)

    def _loaded(self) -> tuple[CLIPModel, CLIPTokenizer, CLIPImageProcessorPil]:
        """Load the parts. ServiceError (model-failed-to-load) when one is missing."""
        log.info("loading CLIP from %s", self.source)
        try:
            model = CLIPModel.from_pretrained(self.source, dtype=torch.float32).to(self.device).eval()
            return model, CLIPTokenizer.from_pretrained(self.source), CLIPImageProcessorPil.from_pretrained(self.source)
        except Exception as error:
            detail = f"OVAM_CLIP: {self.source!r} is no CLIP model that loads ({type(error).__name__}: {str(error)[:200]})"
            raise ServiceError(Code.MODEL_FAILED_TO_LOAD, detail, field="appraisal.clip", value=self.source) from error


def features(answer: torch.Tensor | object) -> Float[torch.Tensor, "batch width"]:
    """What transformers answers, of whichever version: a tensor, or an output that has it as its pooled one."""
    return answer if isinstance(answer, torch.Tensor) else answer.pooler_output  # type: ignore[attr-defined]
