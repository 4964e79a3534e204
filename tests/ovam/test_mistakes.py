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
from ovam.core.export import export
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
mask, half = np.zeros((64, 64), bool), np.arange(64 * 64).reshape(64, 64) < 2048
image = np.zeros((64, 64, 3), np.uint8)
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
    "ovam.heatmaps(trace, embedding, aggregation='goca')": "aggregation is 'goca'; allowed: one of 'equal', 'automatic'",
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
    "ovam.segment(trace, pipeline, 'cat', None)": "method is None; allowed: text or Method or a sequence of these",
    "ovam.heatmaps(trace, embedding, evaluations=None)": "evaluations is None; allowed: 'all', a position",
    "ovam.heatmaps(trace, embedding, evaluations=[0.5])": "evaluations is .*; allowed: whole numbers",
    "ovam.heatmaps(trace, embedding, evaluations={'start': 1})": "evaluations is .*; allowed: 'all'",
    "ovam.heatmaps(trace, embedding, evaluations=True)": "evaluations is True; allowed: 'all'",
    "ovam.heatmaps(trace, embedding, evaluations='last')": "evaluations is 'last'; allowed: 'all'",
    "ovam.heatmaps(trace, embedding, evaluations=1.0)": "evaluations is 1.0; allowed: as a fraction of the way",
    "ovam.heatmaps(trace, embedding, blocks='')": "blocks is ''; allowed: a resolution",
    "ovam.heatmaps(trace, embedding, blocks=True)": "blocks is True; allowed: text or a whole number or a sequence",
    "ovam.heatmaps(trace, embedding, blocks=None)": "blocks is None; allowed: text or a whole number or a sequence",
    "ovam.heatmaps(trace, embedding, reduction='max')": "reduction is 'max'; allowed: one of 'mean', 'sum'",
    "ovam.capture(pipeline, half='both')": "half is 'both'; allowed: one of 'conditional', 'unconditional'",
    "ovam.encode(pipeline, 'a cat', padding='longest')": "padding is 'longest'; allowed: one of 'none', 'max_length'",
    "ovam.capture(pipeline, features=True)": "features is True; allowed: FeatureChoice or None",
    "ovam.capture(pipeline, features='all')": "features is 'all'; allowed: FeatureChoice or None",
    "ovam.capture(pipeline, evaluations='x').__enter__()": "evaluations is 'x'; allowed: 'all', a position",
    "ovam.capture(pipeline, evaluations=slice(0, 3, 0)).__enter__()": "evaluations is slice.*; allowed: .*; step is 0; allowed",
    "ovam.capture(pipeline, self_attention='yes')": "self_attention is 'yes'; allowed: True or False",
    "ovam.capture_replay(pipeline, heads={}).__enter__()": "heads is {}; allowed: 'all', a position",
    "trace.to(dtype=torch.int8)": "dtype is torch.int8; allowed: a floating type",
    "ovam.heatmaps(trace, embedding[0])": r"embedding is \(32,\); allowed: \(1 or more tokens, 32\)",
    "ovam.heatmaps(trace, embedding, evaluations=np.array(3.5))": "evaluations is 3.5; allowed: as a fraction of the way",
    "ovam.heatmaps(trace, embedding, size=5)": r"size is 5; allowed: \(a whole number at least 1, a whole number at least 1\)",
    "ovam.word_heatmap(trace, pipeline, 'a cat', 'cat', size=(1.5, 3))": r"size is \(1.5, 3\); allowed: \(a whole number",
    "ovam.word_heatmap(trace, pipeline, 'a cat', 'cat', size=(8, 8, 8))": r"size is \(8, 8, 8\); allowed: \(a whole number",
    "ovam.rank_words(trace, pipeline, 'a cat', box=(0.5, 0, 1, 1))": r"box is \(0.5, 0, 1, 1\); allowed: \(a whole number",
    "ovam.rank_words(trace, pipeline, 'a cat', box=(0, 0, 1))": r"box is \(0, 0, 1\); allowed: \(a whole number",
    "ovam.rank_words(trace, pipeline, 'a cat', box='0,0,1,1')": "box is '0,0,1,1'; allowed: ",
    "ovam.rank_words(trace, pipeline, 'a cat', words='cat', box=(0, 0, 1, 1))": "words is 'cat'; allowed: a sequence",
    "ovam.trace_image(pipeline, image, timesteps=[1.5])": r"timesteps is \[1.5\]; allowed: a sequence of these: a whole number",
    "ovam.trace_image(pipeline, image, timesteps=5)": "timesteps is 5; allowed: a sequence",
    "ovam.trace_image(pipeline, image, seed='a')": "seed is 'a'; allowed: a whole number",
    "ovam.encode(pipeline, ['a cat'])": r"prompt is \['a cat'\]; allowed: text",
    "ovam.Rows(embedding, rows=2)": "rows is 2; allowed: a sequence of these: a whole number or None",
    "ovam.Rows([1.0, 2.0])": "embedding is \\[1.0, 2.0\\]; allowed: a tensor of",
    "ovam.Words('a cat', 'cat', 'x')": "occurrence is 'x'; allowed: a whole number",
    "ovam.Words(['a cat'])": "prompt is .*; allowed: text",
    "ovam.LearnedTokens(torch.zeros(3, 32), ('cat', 'cat'))": r"names is \('cat', 'cat'\); allowed: names that differ",
    "ovam.LearnedTokens(torch.zeros(4, 32), 'cat')": "names is 'cat'; allowed: a sequence of these: text",
    "ovam.segment(trace, pipeline, 'cat', 'daam', confidence=None)": "confidence is None; allowed: True or False or Calibration",
    "ovam.segment(trace, pipeline, 'cat', 'daam', confidence=0.5)": "confidence is 0.5; allowed: True or False or Calibration",
    "ovam.optimize_tokens([(trace, mask)], 'cat', schedule='cosine')": "schedule is 'cosine'; allowed: Constant or",
    "ovam.optimize_tokens([(trace, mask)], 'cat', pipeline=pipeline, epochs=1.5)": "epochs is 1.5; allowed: a whole number",
    "ovam.optimize_tokens([(trace, mask)], 'cat', pipeline=pipeline, epochs='3')": "epochs is '3'; allowed: a whole number",
    "ovam.optimize_tokens([(trace, mask)], 5, pipeline=pipeline)": "init is 5; allowed: words, or a tensor",
    "ovam.optimize_tokens([(trace, mask)], ['cat', 'cat'], pipeline=pipeline)": "init is .*; allowed: words that differ",
    "ovam.optimize_tokens([trace], 'cat', pipeline=pipeline)": "example 0 is 'Trace'; allowed: a pair: a trace and its mask",
    "ovam.optimize_tokens((trace, mask), 'cat', pipeline=pipeline)": "example 0 is 'Trace'; allowed: a pair",
    "list(export([], 'voc', ['car'], split=0.2))": "split is 0.2; allowed: Split",
    "ovam.overlay(np.zeros((4, 4), int), np.zeros((4, 4)))": "image is 'int64'; allowed: uint8",
    "ovam.dense_crf(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)))": "mask is .*float64.*; allowed: bool",
    "dense_crfs(np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4)))": "masks is .*float64.*; allowed: bool",
}
FINE = (
    "assert len(ovam.heatmaps(trace, embedding, evaluations=np.arange(1))) == 4",
    "assert ovam.Method(evaluations=np.arange(3)) == ovam.Method(evaluations=(0, 1, 2))",
    "assert select_positions(slice(0.5, None), 7, 'evaluations') == select_positions(Span(0.5), 7, 'evaluations')",
    "assert select_positions(np.array(2), 3, 'heads') == select_positions(torch.tensor([2]), 3, 'heads') == (2,)",
    "ovam.capture(pipeline, heads=np.arange(2), evaluations=slice(0.5, None)).__enter__()",
    "assert ovam.heatmaps(trace, embedding, size=np.array([8, 8])).shape == (4, 8, 8)",
    "ovam.optimize_tokens([(trace, half.astype(np.uint16))], 'cat', pipeline=pipeline, epochs=np.int64(1))",
    "ovam.optimize_tokens([(trace, half)], np.eye(2, 32, dtype=np.float32), epochs=1)",
    "ovam.segment(trace, pipeline, 'cat', 'daam', confidence=np.True_)",
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
