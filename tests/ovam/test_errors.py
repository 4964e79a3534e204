"""Every error has a code of its own."""

from ovam import errors


def tree(root: type[errors.OvamError]) -> list[type[errors.OvamError]]:
    return [root, *(each for child in root.__subclasses__() for each in tree(child))]


def test_codes_are_words_with_dashes_and_differ() -> None:
    codes = [error.code for error in tree(errors.OvamError)]
    assert len(set(codes)) == len(codes) >= 12
    assert all(code.replace("-", "").isalpha() and code == code.lower() for code in codes)


def test_an_invalid_argument_names_field_value_and_what_is_allowed() -> None:
    error = errors.InvalidArgumentError("tau", 1.5, "0 to 1")
    assert str(error) == "tau is 1.5; allowed: 0 to 1"
    assert error.field == "tau"
