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
    assert isinstance(error, ValueError), "as what Python's own functions raise"


def test_a_value_is_quoted_whole_up_to_200_characters_and_a_longer_one_is_cut() -> None:
    assert errors.shown("x" * 198) == repr("x" * 198)
    assert errors.shown("x" * 199) == "'" + "x" * 199 + "..."
    assert len(errors.shown([["x" * 1000] * 1000] * 1000)) == 203


def test_the_closest_name_is_suggested() -> None:
    error = errors.UnknownMethodError("dam", ["ovam", "daam"], close=["daam", "ovam"])
    assert str(error) == "method is 'dam'; allowed: ovam, daam (did you mean 'daam'?)"
