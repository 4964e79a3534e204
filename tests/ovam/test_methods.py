"""Methods are settings: complete, overridable, and enough to make a mask again."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ovam
from ovam.errors import InvalidArgumentError, NoSelfAttentionError
from tests.ovam.test_reference import LAYERS

HEAT = torch.linspace(0, 1, 24).view(4, 6)
IMAGE = np.zeros((32, 48, 3), dtype=np.uint8)
IMAGE[10:25, 20:45] = 200


def test_the_published_settings_are_those_of_the_paper() -> None:
    settings = {one.name: (one.tau, one.refine, one.alpha, one.normalize, one.evaluations, one.crf) for one in ovam.METHODS}
    crf = ovam.CrfParameters()
    assert settings["ovam-words"] == (0.4, "attention", 0.85, "max", None, crf)
    assert settings["ovam-optimized"] == (0.8, "attention", 0.95, "max", None, crf)
    assert settings["daam-words"][:2] == (0.4, "none")
    assert settings["daam-optimized"][:2] == (0.8, "none")
    assert settings["attn2mask-words"] == (pytest.approx(0.4), "none", 0.85, "minmax", 0.5, crf)
    assert settings["attn2mask-optimized"][0] == pytest.approx(0.6)
    assert {one.crf for one in ovam.METHODS if one.name.startswith("daam")} == {None}


def test_attn2mask_marks_where_the_class_beats_the_background() -> None:
    chosen = ovam.method("attn2mask", {"crf": None})
    heat = (HEAT - HEAT.min()) / (HEAT.max() - HEAT.min())
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    assert np.array_equal(ovam.mask_of(chosen, HEAT, image), (heat >= (1 - heat - 0.2).clamp(min=0)).numpy())


@pytest.mark.parametrize("name", [one.name for one in ovam.METHODS])
def test_a_mask_can_be_made_again_from_its_settings(name: str) -> None:
    chosen = ovam.method(name, {"affinity_steps": 2, "minimum_area": 4, "fill_holes": True})
    record = json.loads(json.dumps(chosen.settings()))
    again = ovam.method("daam", record)
    assert again == chosen
    masks = [ovam.mask_of(one, HEAT, IMAGE, LAYERS) for one in (chosen, again)]
    assert np.array_equal(*masks)
    assert masks[0].shape == (32, 48)


INDICES = st.one_of(
    st.none(),
    st.integers(-9, 9),
    st.lists(st.integers(-9, 9), min_size=1, max_size=4),
    st.builds(slice, st.none() | st.integers(-9, 9), st.none() | st.integers(-9, 9), st.none() | st.integers(1, 3)),
)
ANY_METHOD = st.fixed_dictionaries(
    {},
    optional={
        "tau": st.floats(0.01, 1),
        "alpha": st.floats(0, 1),
        "blocks": st.one_of(st.none(), st.just("up"), st.integers(1, 64), st.lists(st.sampled_from(["down", 16]), min_size=1)),
        "evaluations": INDICES | st.floats(0, 0.99),
        "heads": INDICES,
        "crf": st.none() | st.booleans() | st.builds(ovam.CrfParameters, iterations=st.integers(1, 9)),
        "padding": st.sampled_from(["none", "max_length"]),
        "reduction": st.sampled_from(["mean", "sum"]),
        "threshold": st.sampled_from(["share", "absolute", "otsu"]),
        "refine": st.sampled_from(["none", "attention", "affinity", "both"]),
        "sign": st.sampled_from([1, -1]),
        "affinity_steps": st.integers(1, 4),
        "minimum_area": st.integers(0, 99),
        "fill_holes": st.booleans(),
    },
)


@given(ANY_METHOD, st.sampled_from(ovam.METHODS), st.sampled_from(ovam.METHODS))
def test_settings_come_back_from_json_whatever_they_are_laid_over(
    changes: dict[str, object], method: ovam.Method, other: ovam.Method
) -> None:
    written = ovam.method(method.name, changes).settings()
    again = ovam.method(other.name, json.loads(json.dumps(written)))
    assert again.settings() == written
    assert again.rule() == ovam.method(method.name, changes).rule()


def test_ranges_all_blocks_and_no_crf_are_said_outright() -> None:
    """Over HTTP a null says nothing, so that what is meant by it would be another method's."""
    settings = ovam.method("daam", {"evaluations": slice(None, -2), "heads": slice(0, 9, 2)}).settings()
    assert (settings["evaluations"], settings["heads"]) == ({"stop": -2}, {"start": 0, "stop": 9, "step": 2})
    assert (settings["blocks"], settings["crf"]) == (["."], False)
    everything = ovam.method("attn2mask", {"evaluations": {}, "blocks": ["."], "crf": False})
    assert (everything.evaluations, everything.blocks, everything.crf) == (None, None, None)


def test_every_setting_can_be_overridden() -> None:
    changed = {
        "name": "own", "tau": 0.2, "alpha": 0.1, "normalize": "minmax", "evaluations": [3], "blocks": ["up"], "heads": 0,
        "crf": {"iterations": 2},
        "padding": "max_length", "reduction": "sum", "threshold": "share", "refine": "both", "sign": -1, "affinity_steps": 4,
        "minimum_area": 9, "fill_holes": True,
    }  # fmt: skip
    settings = ovam.method("ovam", changed).settings()
    assert settings.keys() == changed.keys()
    assert settings["crf"]["iterations"] == 2
    assert {field: settings[field] for field in changed if field != "crf"} == {f: v for f, v in changed.items() if f != "crf"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tau": 1.5}, "tau"),
        ({"alpha": float("nan")}, "alpha"),
        ({"affinity_steps": 5}, "affinity_steps"),
        ({"refine": "dcrf"}, "refine"),
        ({"threshold": "otsu", "normalize": "minmax"}, "normalize"),
        ({"threshold": "absolute", "tau": -1.0}, "level"),
        ({"padding": None}, "padding"),
        ({"tau": "much"}, "settings"),
        ({"sign": 0}, "sign"),
        ({"minimum_area": -1}, "minimum_area"),
        ({"temperature": 1}, "settings"),
        ({"crf": {"weight": 1}}, "crf"),
        ({"crf": "on"}, "crf"),
        ({"evaluations": {"from": 1}}, "evaluations"),
    ],
)
def test_settings_outside_unknown_or_contradictory_are_named(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{field} is "):
        ovam.method("ovam", changes)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgumentError, match=r"method is 'sam'; allowed: ovam-words, .*attn2mask"):
        ovam.method("sam")


def test_refining_without_self_attention_is_refused() -> None:
    for refine in ("attention", "affinity", "both"):
        with pytest.raises(NoSelfAttentionError, match="no self-attention"):
            ovam.mask_of(ovam.method("daam", {"refine": refine}), HEAT, IMAGE)
