"""What Label Studio sends, and what its own library says of the answers."""

import json
import subprocess
from typing import Any

import numpy as np

from tests.integrations.test_brush import FOLDER, PYTHON

Json = dict[str, Any]
PATH = "/integrations/label-studio"
CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="mask" toName="image">
    <Label value="Car" ovam="car" background="#f00"/>
    <Label value="A tree" ovam="tree"/>
    <Label value="Unsure" ovam=""/>
  </BrushLabels>
  <PolygonLabels name="outline" toName="image"><Label value="Hat" ovam="hat"/></PolygonLabels>
  <KeyPointLabels name="point" toName="image" smart="true"><Label value="Car"/><Label value="A tree"/></KeyPointLabels>
  <RectangleLabels name="box" toName="image" smart="true"><Label value="Car"/></RectangleLabels>
  <KeyPoint name="bare" toName="image" smart="true"/>
</View>
"""
POLYGONS = """<View><Image name="image" value="$image"/>
<PolygonLabels name="outline" toName="image"><Label value="Car" ovam="car"/></PolygonLabels></View>"""
BOXES = POLYGONS.replace("PolygonLabels", "RectangleLabels")
VALIDATE = """
import json, sys
from label_studio_sdk.label_interface import LabelInterface
config, predictions = json.load(sys.stdin)
interface = LabelInterface(config)
print(json.dumps([interface.validate_prediction(each, return_errors=True) for each in predictions]))
"""


def assert_valid(predictions: list[Json], config: str = CONFIG) -> None:
    """Let Label Studio's library judge predictions, where it is installed."""
    if FOLDER is not None:
        sent = json.dumps([config, predictions])
        done = subprocess.run([PYTHON, "-c", VALIDATE], input=sent, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout.splitlines()[-1]) == [[]] * len(predictions)


def asked(*images: str, context: list[Json] | None = None, config: str = CONFIG) -> Json:
    """A request for predictions, as Label Studio's `MLApi.make_predictions` writes it."""
    return {
        "tasks": [
            {"id": number, "data": {"image": image}, "is_labeled": False, "annotations": [], "predictions": [], "drafts": []}
            for number, image in enumerate(images)
        ],
        "project": "7.1763805000",
        "label_config": config,
        "params": {"login": None, "password": None, "context": {"result": context} if context else None},
    }


def smart(kind: str, x: float, y: float, *labels: str, positive: bool = True, **more: float) -> Json:
    """What a smart tool draws, as Label Studio sends it, in percent."""
    value: Json = {"x": x, "y": y, **more}
    if labels:
        value[kind] = [*labels]
    return {
        "id": "p1",
        "from_name": "point",
        "to_name": "image",
        "type": kind,
        "origin": "manual",
        "is_positive": positive,
        "original_width": 96,
        "original_height": 80,
        "image_rotation": 0,
        "value": value,
    }


def painted(mask: np.ndarray, rle: list[int], label: str) -> Json:
    """A region that a person painted."""
    height, width = mask.shape
    return {
        "id": "b1",
        "from_name": "mask",
        "to_name": "image",
        "type": "brushlabels",
        "origin": "manual",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": rle, "brushlabels": [label]},
    }


def happened(action: str, image: str = "", *regions: Json, annotation: int = 1, config: str = CONFIG, **more: Any) -> Json:
    """A webhook, as Label Studio's serializers write it."""
    project = {"id": 7, "title": "cars", "created_at": "2026-11-22T10:00:00Z", "label_config": config}
    if action == "START_TRAINING":
        return {"action": action, "project": project}
    if action == "ANNOTATIONS_DELETED":
        return {"action": action, "annotations": [{"id": annotation}], "project": project}
    return {
        "action": action,
        "annotation": {"id": annotation, "result": [*regions], "was_cancelled": False, "ground_truth": False, "task": 1, **more},
        "task": {"id": 1, "data": {"image": image}, "project": 7},
        "project": project,
    }
