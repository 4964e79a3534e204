"""Mistakes as they are made in a notebook, where no type checker stands before the library: each is named."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SETTING_UP = """
import json, sys, numpy as np, torch, ovam
from ovam.core.crf import CrfParameters
from ovam.core.masks import weighted
from ovam.core.methods import ByAttention, ByBoth
from ovam.core.selection import Span, select_blocks, select_positions
from ovam.core.thresholds import Share
from ovam.fitting.mean_field import dense_crfs
from tests.pipelines import tiny_pipeline

pipeline = tiny_pipeline()
with ovam.capture(pipeline) as traces:
    pipeline("a cat", num_inference_steps=1, output_type="latent")
(trace,) = traces
embedding, tokens = ovam.encode(pipeline, "a cat")
mask = np.zeros((64, 64), bool)
said = []
for code in json.load(sys.stdin):
    try:
        exec(code)
        said.append("nothing")
    except ovam.OvamError as error:
        said.append(f"{error.code}: {error}")
print(json.dumps(said))
"""
MISTAKES = {
    "ovam.Method(refine='both')": "refine is 'both'; allowed: NoRefinement or ByAttention or ByAffinity or ByBoth",
    "ovam.Method(threshold=0.4)": "threshold is 0.4; allowed: Share or Absolute or Otsu",
    "ovam.Method(crf=True)": "crf is True; allowed: CrfParameters or None",
    "ovam.Method(blocks=None)": "blocks is None; allowed: text or a whole number or a sequence",
    "ovam.Method(blocks=['up', 2.5])": r"blocks is \('up', 2.5\); allowed: text or a whole number or a sequence",
    "ovam.Method(evaluations='first')": "evaluations is 'first'; allowed: 'all' or",
    "ovam.Method(padding=None)": "padding is None; allowed: one of 'none', 'max_length'",
    "ovam.Method(reduction='max')": "reduction is 'max'; allowed: one of 'mean', 'sum'",
    "ovam.Method(aggregation='goca')": "aggregation is 'goca'; allowed: one of 'equal', 'automatic'",
    "ovam.heatmaps(trace, embedding, aggregation='goca')": "aggregation is 'goca'; allowed: 'equal' or 'automatic'",
    "ovam.heatmaps(trace, embedding, aggregation='automatic')": "no-contributions: .* contributions=True",
    "ovam.Method(fill_holes=1)": "fill_holes is 1; allowed: True or False",
    "Share(True)": "tau is True; allowed: a number above 0, at most 1",
    "Share(0.4, 'mean')": "normalize is 'mean'; allowed: one of 'max', 'minmax'",
    "ByAttention(0.5, 0)": "sign is 0; allowed: one of 1, -1",
    "ByAttention(0.5, True)": "sign is True; allowed: one of 1, -1",
    "ByBoth(1.5)": "steps is 1.5; allowed: a whole number at least 1, at most 4",
    "CrfParameters(iterations=2.5)": "iterations is 2.5; allowed: a whole number",
    "weighted(np.ones((2, 2)), np.ones((2, 2)), 0.5, 2)": "sign is 2; allowed: 1 or -1",
    "ovam.heatmaps(traces, embedding)": "trace is 'a list of 1'; allowed: one Trace, such as traces[0]",
    "ovam.segment(traces, pipeline, 'cat', 'daam')": "trace is 'a list of 1'; allowed: one Trace, such as traces[0]",
    "ovam.word_heatmap(traces, pipeline, 'a cat', 'cat')": "trace is 'a list of 1'; allowed: one Trace",
    "ovam.rank_words(traces, pipeline, 'a cat', box=(0, 0, 1, 1))": "trace is 'a list of 1'; allowed: one Trace",
    "ovam.optimize_tokens([(traces, mask)], 'cat', pipeline=pipeline)": "trace is 'a list of 1'; allowed: one Trace",
    "ovam.optimize_tokens([(trace, mask)], 'cat')": "pipeline is None; allowed: the pipeline of the traces",
    "ovam.segment('traces', pipeline, 'cat', 'daam')": "trace is 'str'; allowed: a Trace",
    "ovam.segment(trace, pipeline, 5, 'daam')": "targets is 5; allowed: a word, Words, Rows, LearnedTokens",
    "ovam.segment(trace, pipeline, 'cat', 'dam')": "unknown-method: method is 'dam'; .*did you mean 'daam'",
    "ovam.segment(trace, pipeline, 'cat', None)": "method is None; allowed: the name of a method, a Method",
    "ovam.heatmaps(trace, embedding, evaluations=None)": "evaluations is None; allowed: 'all', a position",
    "ovam.heatmaps(trace, embedding, evaluations=[0.5])": "evaluations is .*; allowed: whole numbers",
    "ovam.heatmaps(trace, embedding, evaluations={'start': 1})": "evaluations is .*; allowed: 'all'",
    "ovam.heatmaps(trace, embedding, evaluations=True)": "evaluations is True; allowed: 'all'",
    "ovam.heatmaps(trace, embedding, evaluations='last')": "evaluations is 'last'; allowed: 'all'",
    "ovam.heatmaps(trace, embedding, evaluations=1.0)": "evaluations is 1.0; allowed: as a fraction of the way",
    "ovam.heatmaps(trace, embedding, blocks='')": "blocks is ''; allowed: a resolution",
    "ovam.heatmaps(trace, embedding, blocks=True)": "blocks is True; allowed: a resolution",
    "ovam.heatmaps(trace, embedding, blocks=None)": "blocks is None; allowed: 'all'",
    "ovam.heatmaps(trace, embedding, reduction='max')": "reduction is 'max'; allowed: 'mean' or 'sum'",
    "ovam.capture(pipeline, half='both').__enter__()": "half is 'both'; allowed: 'conditional' or",
    "ovam.encode(pipeline, 'a cat', padding='longest')": "padding is 'longest'; allowed: 'none' or 'max_length'",
    "ovam.overlay(np.zeros((4, 4), int), np.zeros((4, 4)))": "image is 'int64'; allowed: uint8",
    "ovam.dense_crf(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)))": "mask is .*float64.*; allowed: bool",
    "dense_crfs(np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4)))": "masks is .*float64.*; allowed: bool",
}
FINE = (
    "assert ovam.Method(evaluations=slice(None, -2)) == ovam.Method(evaluations=Span(stop=-2))",
    "assert select_positions(np.int64(1), 3, 'heads') == select_positions(np.arange(1, 2), 3, 'heads') == (1,)",
    "assert select_positions(slice(1, None), 3, 'heads') == select_positions(Span(1), 3, 'heads') == (1, 2)",
    "assert Share(np.float32(0.5)).tau == 0.5 and CrfParameters(bilateral_weight=10).iterations == 5",
    "ovam.optimize_tokens([(trace, [[0, 1], [0, 0]])], ('cat',), pipeline=pipeline, epochs=1)",
)


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """What the library says to each line, in a process of its own without the checks of types that tests run under."""
    codes = [*MISTAKES, *FINE]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SETTING_UP], input=json.dumps(codes), capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(codes, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("code", MISTAKES)
def test_a_mistake_is_named(answers: dict[str, str], code: str) -> None:
    assert re.search(MISTAKES[code].replace("[0]", r"\[0\]"), answers[code]), answers[code]


@pytest.mark.parametrize("code", FINE)
def test_numpys_numbers_slices_and_lists_are_as_good_as_pythons(answers: dict[str, str], code: str) -> None:
    assert answers[code] == "nothing"
