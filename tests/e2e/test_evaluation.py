"""The whole evaluation through a service comes to what it comes to in process."""

from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
import pytest

from experiments.bundled import MODEL
from experiments.evaluation import learning, work
from experiments.evaluation.backends.service import NotServedError, check_served
from experiments.evaluation.datasets import sets_of
from experiments.evaluation.lines import Line, read_lines
from experiments.evaluation.measure import SECOND_ANNOTATOR
from experiments.evaluation.recipes import JOINT, PUBLISHED_RECIPE, REAL, RECIPES
from experiments.evaluation.scales import Scale
from experiments.evaluation.settings import PLAIN, Setting
from experiments.evaluation.stages import Plan
from experiments.evaluation.targets import AGAINST_SCENE, OWN_PROMPT, PADDED, WORDS
from experiments.evaluation.tasks import work_through
from experiments.evaluation.world import image_size, world_of
from tests.experiments.evaluation.conftest import CLEAR

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]
ONE, OTHER = CLEAR, next(one.name for one in world_of(MODEL).vocabulary if one.name != CLEAR)
SMALL = Scale(
    images={"coco-cap-tuning": 1, "coco-cap": 1, "real-scenes-tuning": 1, "real-scenes": 1},
    classes=(ONE,),
    targets=(WORDS, PADDED, OWN_PROMPT, AGAINST_SCENE, PUBLISHED_RECIPE, REAL),
    epochs=3,
)
PIXELS = image_size(MODEL) ** 2
# A service holds queries and keys against each other in half precision, so that heat differs by some 1e-4 of its maximum, nearly
# all of it by the keys; pixels that lie as near to a threshold change sides. A dense CRF, which follows, may make more of one.
MOST, USUAL = 0.01 * PIXELS, 0.001 * PIXELS
HEAT = 0.002


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    plan = Plan(MODEL, tmp_path_factory.mktemp("here"), SMALL)
    for stage in plan.stages.values():
        work_through(stage())
    return plan


def jobs_of(url: str) -> set[str]:
    return {job["id"] for job in httpx2.get(f"{url}/v1/jobs").json()["jobs"]}


@pytest.fixture(scope="module")
def jobs_before(service_url: str) -> set[str]:
    return jobs_of(service_url)


@pytest.fixture(scope="module")
def there(
    here: Plan,
    service_url: str,
    jobs_before: set[str],  # noqa: ARG001  # before anything is asked
    tmp_path_factory: pytest.TempPathFactory,
) -> Plan:
    plan = Plan(MODEL, tmp_path_factory.mktemp("there"), SMALL, service=service_url)
    vars(plan)["choices"] = here.choices  # on so few images two thresholds may be as good as each other
    for stage in plan.stages.values():
        work_through(stage())
    return plan


def lines(plan: Plan, stage: str) -> list[Line]:
    return read_lines(task.path for task in plan.stages[stage]())


@pytest.mark.parametrize("stage", ["tuning", "reporting"])
def test_every_count_is_that_in_process_to_within_the_rounding_of_traces(here: Plan, there: Plan, stage: str) -> None:
    differences = []
    for ours, theirs in zip(lines(here, stage), lines(there, stage), strict=True):
        assert [ours[name] for name in ("dataset", "class_name", "clear", "area")] == [
            theirs[name] for name in ("dataset", "class_name", "clear", "area")
        ]
        assert list(ours["counts"]) == list(theirs["counts"])
        for key, counts in ours["counts"].items():
            found = np.abs(np.subtract(counts, theirs["counts"][key]))
            assert found.max() <= MOST, key
            differences.append(found.ravel())
        assert ours["heat"].keys() == theirs["heat"].keys()
        for target, heat in ours["heat"].items():
            assert theirs["heat"][target] == pytest.approx(heat, rel=HEAT)
    everything = np.concatenate(differences)
    assert np.quantile(everything, 0.99) <= USUAL
    assert (everything == 0).mean() > 0.8


def test_everything_is_measured(here: Plan) -> None:
    clear = [line for line in here.lines() if line["clear"]]
    assert {line["group"] for line in clear} == {"generated", "real"}
    assert all(line["counts"].keys() - {SECOND_ANNOTATOR} == {one.key for one in here.settings[line["group"]]} for line in clear)
    assert any(line["heat"] for line in clear)


def test_tokens_are_learned_from_the_same_images_to_the_same_loss(here: Plan, there: Plan) -> None:
    for ours, theirs in zip(lines(here, "tokens"), lines(there, "tokens"), strict=True):
        assert [ours[name] for name in ("recipe", "classes", "examples", "ended")] == [
            theirs[name] for name in ("recipe", "classes", "examples", "ended")
        ]
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-3)
        assert "@" in theirs["token"]


def test_tokens_of_several_classes_are_learned_together_and_looked_for_by_class(here: Plan, there: Plan) -> None:
    recipe, words = replace(RECIPES[JOINT], epochs=3), {name: here.words[name] for name in (ONE, OTHER)}
    cases = {name: here.datasets[recipe.dataset].of_class(name) for name in words}
    setting = Setting("plain", recipe.name, PLAIN)
    masks = []
    for plan in (here, there):
        with work.opened(plan.place) as backend:
            (line,) = learning.learn_jointly(backend, recipe, words, cases)
            (subject,) = backend.generate([sets_of(here.world)["voc-sim-tuning"].case(OTHER, 0)])
            learned = {(recipe.name, name): line for name in words}
            masks.append(backend.answers(subject, learned, masks=[setting], heats=[]).mask(setting))
    assert masks[0].any()
    assert (masks[0] != masks[1]).sum() <= MOST


def test_nothing_but_tokens_is_left_at_the_service(there: Plan, jobs_before: set[str]) -> None:
    assert there.lines()
    assert jobs_of(there.service) <= jobs_before


def test_a_model_that_is_not_served_is_named_with_those_that_are(service_url: str) -> None:
    check_served(service_url, MODEL, str(MODEL))
    with pytest.raises(NotServedError, match=r"does not have the model 'models/other'; it has: world"):
        check_served(service_url, Path("models/other"), "models/other")
    with pytest.raises(NotServedError, match="no service answers at"):
        check_served("http://127.0.0.1:1", MODEL, str(MODEL))
