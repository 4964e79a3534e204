"""An error of the library keeps its code, its sentence and its field on the way to a client."""

from collections.abc import Iterator

import pytest

from contracts.schema.errors import CODES, Code, Failure, ServiceError, service_error
from ovam.errors import InvalidArgumentError, LabelMapError, NoSelfAttentionError, OvamError, SelectionError

FOR_PYTHON_ALONE = {LabelMapError}  # no request leads to it


def kinds(base: type[OvamError] = OvamError) -> Iterator[type[OvamError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


@pytest.mark.parametrize("kind", sorted(set(kinds()) - FOR_PYTHON_ALONE, key=lambda kind: kind.__name__))
def test_every_error_of_the_library_has_the_code_of_a_problem(kind: type[OvamError]) -> None:
    assert kind.code in CODES


def test_an_error_that_is_not_for_clients_is_internal() -> None:
    assert service_error(LabelMapError("no PNG")).code is Code.INTERNAL


def test_an_arguments_error_names_field_and_value() -> None:
    error = service_error(SelectionError("heads", [7], "0 to 3"))
    assert (error.code, str(error), error.field) == (Code.SELECTION_INVALID, "heads is [7]; allowed: 0 to 3", "heads")
    assert error.value == "[7]"
    assert service_error(InvalidArgumentError("tau", 2.0, "at most 1")).value == 2.0


def test_the_caller_says_the_field_of_the_request_if_it_knows_it() -> None:
    error = service_error(SelectionError("heads", 7, "0 to 3"), field="targets.0.settings.heads")
    assert (error.field, error.value) == ("targets.0.settings.heads", 7)
    error = service_error(NoSelfAttentionError("none kept"), field="method")
    assert (error.code, error.field, error.value, str(error)) == (Code.NO_SELF_ATTENTION, "method", None, "none kept")
    assert service_error(NoSelfAttentionError("none kept")).field is None


def test_a_failure_keeps_what_the_error_says() -> None:
    error = ServiceError(Code.UNKNOWN_TOKEN, "no cat", field="token", value="cat")
    assert Failure.of(error) == Failure(code=Code.UNKNOWN_TOKEN, detail="no cat", field="token", value="cat")
