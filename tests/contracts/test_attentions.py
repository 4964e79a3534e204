"""Questions to a model whose pixels and text attend together: what each kind of its attention can be asked."""

import pytest

from contracts.rules.attentions import check_own_words, check_stream, with_own_prompt
from contracts.schema.attribute import AttributeRequest
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import BlockInfo
from contracts.schema.targets import EmbeddingTarget, WordsTarget
from ovam.core.methods import Method
from tests.contracts.test_targets import MODEL

OWN = "a cat on a mat"
WORD = WordsTarget(word="cat")
JOINT = MODEL.model_copy(update={"attentions": ["concept", "joint", "text"], "family": "flux"})
KEPT = [BlockInfo(name=name, grid=(4, 4), heads=2) for name in ("transformer_blocks.0", "single_transformer_blocks.0")]


@pytest.mark.parametrize("attention", ["joint", "text"])
def test_attention_to_the_images_own_words_is_asked_of_those_alone(attention: str) -> None:
    method = Method(attention=attention)
    filled = WORD.model_copy(update={"prompt": OWN})
    assert with_own_prompt(WORD, method, OWN, field="targets.0") == filled
    assert with_own_prompt(filled, method, OWN, field="targets.0") == filled
    row = EmbeddingTarget(label="row", embedding=[[0.0, 0.0]] * 2)
    other = WORD.model_copy(update={"prompt": "a dog"})
    for target, prompt, field in ((row, OWN, ""), (other, OWN, ".prompt"), (WORD, None, ".prompt")):
        with pytest.raises(ServiceError) as refused:
            with_own_prompt(target, method, prompt, field="targets.0")
        assert (refused.value.code, refused.value.field) == (Code.SETTINGS_CONTRADICT, f"targets.0{field}")
        assert with_own_prompt(target, Method(attention="concept"), prompt, field="targets.0") is target


def test_words_that_share_a_softmax_anyway_do_not_compete_once_more() -> None:
    request = AttributeRequest.model_validate({"job_id": "0" * 26, "targets": [{"word": "cat"}] * 2, "softmax": "together"})
    methods = [Method(attention="concept"), Method(attention="text")]
    check_own_words(request, methods[:1] * 2, "targets.{}".format)
    check_own_words(request.model_copy(update={"softmax": "each"}), methods, "targets.{}".format)
    with pytest.raises(ServiceError, match="share a softmax anyway") as refused:
        check_own_words(request, methods, "targets.{}".format)
    assert refused.value.field == "targets.1"


def test_a_concept_stream_has_no_heads_and_runs_through_blocks_of_two_streams() -> None:
    for attention in (None, "concept"):
        check_stream(JOINT, KEPT, attention=attention, blocks="all", heads="all")
        for kept, blocks, heads, field in (
            (KEPT, ["single"], "all", "blocks"),
            (KEPT[1:], "all", "all", "blocks"),
            (KEPT, "all", 1, "heads"),
        ):
            with pytest.raises(ServiceError) as refused:
                check_stream(JOINT, kept, attention=attention, blocks=blocks, heads=heads, field="settings.{}".format)
            assert (refused.value.code, refused.value.field) == (Code.SELECTION_INVALID, f"settings.{field}")
    for card, attention in ((JOINT, "joint"), (MODEL, None)):
        check_stream(card, KEPT[1:], attention=attention, blocks=["single"], heads=1)
