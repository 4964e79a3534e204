import tomllib

import pytest

import ovam
import ovam_client
from contracts.schema.errors import Code
from service import examples
from tests.client import schemas, sync
from tests.packaging.files import project
from tests.packaging.test_requirements import imported, packages_of


def test_the_types_are_those_of_the_gateway_s_description() -> None:
    for path, text in schemas.written().items():
        assert path.read_text() == text, f"{path.name} is out of date: python -m tests.client.schemas"


@pytest.mark.parametrize("name", sync.FILES)
def test_the_client_that_blocks_is_the_one_that_awaits(name: str) -> None:
    assert (sync.FOLDER / name).read_text() == sync.written(name), "out of date: python -m tests.client.sync"


def test_client_and_service_have_one_version() -> None:
    assert ovam_client.__version__ == ovam.__version__


def test_every_code_of_the_service_is_known() -> None:
    assert {str(code) for code in ovam_client.Code} == {str(code) for code in Code}


@pytest.mark.parametrize("name", ["SUCCEEDED", "IMPORT_SUCCEEDED", "QUEUED", "CANCELED"])
def test_answers_that_say_more_than_today_s_are_understood(name: str) -> None:
    answer = getattr(examples, name)
    later = answer | {"news": 1, "state": "paused", "progress": {"done": 1, "total": 2, "unit": "tile", "more": 1}}
    record = ovam_client.answers.JobRecord.model_validate(later)
    assert record.state == "paused"
    assert record.progress is not None
    assert record.progress.unit == "tile"


def test_an_answer_of_a_kind_that_is_not_known_yet_is_read() -> None:
    record = examples.SUCCEEDED | {"kind": "dataset", "request": {"kind": "dataset"}, "result": {"kind": "dataset", "rows": 3}}
    assert ovam_client.answers.JobRecord.model_validate(record).result == {"kind": "dataset", "rows": 3}


def test_the_client_s_own_project_asks_for_what_it_imports_and_for_nothing_else() -> None:
    table = tomllib.loads((schemas.FOLDER / "pyproject.toml").read_text())["project"]
    asked = {line.partition(">=")[0] for line in (*table["dependencies"], *table["optional-dependencies"]["cli"])}
    assert set(packages_of(imported("ovam_client"))) == asked
    assert table["requires-python"] == project()["project"]["requires-python"]
