"""Everything that can go wrong here, as one small tree: each class carries a stable `code` for programs."""

from collections.abc import Sequence
from reprlib import Repr
from typing import ClassVar, Final

LONGEST_QUOTE: Final = 200  # characters


class Quoted(Repr):
    """The repr of a value, without going through the whole of a long one."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 16
        self.maxstring = self.maxlong = self.maxother = 2 * LONGEST_QUOTE


quoted: Final = Quoted().repr


class OvamError(Exception):
    """Base of every error that this library raises on purpose; `code` names its kind for programs.

    >>> try:
    ...     ovam.METHODS["dam"]
    ... except ovam.OvamError as error:
    ...     print(error.code, str(error)[:42])
    unknown-method method is 'dam'; allowed: ovam, daam, attn
    """

    code: ClassVar[str] = "ovam-error"


class InvalidArgumentError(OvamError, ValueError):
    """An argument is outside what is allowed; the message names it, its value and the allowed range."""

    code = "invalid-argument"

    def __init__(self, field: str, value: object, allowed: str) -> None:
        """Name the argument `field`, the `value` it had and what would have been `allowed`."""
        super().__init__(f"{field} is {shown(value)}; allowed: {allowed}")
        self.field = field
        self.value = value


class UnknownMethodError(InvalidArgumentError):
    """No published method has this name; the message suggests one that is close."""

    code = "unknown-method"

    def __init__(self, name: object, known: Sequence[str], close: Sequence[str]) -> None:
        """Name the unknown method, the `known` ones and those `close` to it."""
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        super().__init__("method", name, f"{', '.join(known)}{hint}")


class SelectionError(InvalidArgumentError):
    """A selection of blocks, evaluations or heads selects nothing, or something that is not there."""

    code = "selection-invalid"


class MissingPackageError(OvamError):
    """A feature needs a package that is not installed; the message says how to install it."""

    code = "package-missing"

    def __init__(self, package: str, extra: str, feature: str) -> None:
        """Name the `package`, the `extra` of this library that brings it, and the `feature` that needs it."""
        super().__init__(f"{feature} needs the package {package}: pip install 'ovam-service[{extra}]'")


class NoSelfAttentionError(OvamError):
    """The trace holds no self-attention, that the chosen refinement needs."""

    code = "no-self-attention"


class FeaturesNotKeptError(OvamError):
    """The trace holds no features of the UNet's blocks, or not those that a trained network takes."""

    code = "no-features"


class ContributionsNotKeptError(OvamError):
    """The trace does not hold how much heads and layers contribute, which automatic aggregation goes by."""

    code = "no-contributions"


class NoNetworkError(OvamError):
    """A method asks for a trained network that this model does not have; the message says which it has."""

    code = "no-network"


class NetworkFileError(OvamError):
    """A file holds no trained network: cut short, corrupt, or of another kind."""

    code = "network-file-unreadable"


class NetworkOfOtherModelError(OvamError):
    """A trained network belongs to another model than the trace."""

    code = "network-of-other-model"


class ClassNotTrainedError(OvamError):
    """A network that knows its training's classes alone is asked for another one."""

    code = "class-not-trained"


class UnsupportedModelError(OvamError):
    """The pipeline is of a kind whose attention cannot be read yet."""

    code = "model-unsupported"


class CompiledModelError(OvamError):
    """The UNet was compiled before the capture, so that its hooks would never be called."""

    code = "model-compiled"


class CaptureError(OvamError):
    """The UNet ran, but not in a way from which queries could be kept."""

    code = "capture-failed"


class NotReplayableError(OvamError):
    """A generation depends on what a replay cannot keep, so that its queries must be kept instead."""

    code = "not-replayable"


class WordNotInPromptError(OvamError):
    """The word (or its n-th occurrence) is not in the attribution prompt."""

    code = "word-not-in-prompt"


class PromptTooLongError(OvamError):
    """The attribution prompt has more tokens than the text encoder takes."""

    code = "prompt-too-long"


class TraceFormatError(OvamError):
    """The bytes are not a trace: cut short, corrupt, or of another kind."""

    code = "trace-unreadable"


class TraceMismatchError(OvamError):
    """The trace is sound but was captured from a model of another build."""

    code = "trace-mismatch"


class MaskNotAnImageError(OvamError):
    """The bytes of a mask are no PNG, or a damaged one."""

    code = "mask-not-an-image"


class MaskUnreadableError(OvamError):
    """A mask is in none of the forms that masks are read from; the message says what to send instead."""

    code = "mask-unreadable"


class ImageTooLargeError(OvamError):
    """A mask has more pixels, or longer outlines, than are read."""

    code = "image-too-large"


class UnusableMaskError(OvamError):
    """The annotation teaches nothing: a class is missing, or one class covers the whole image."""

    code = "mask-unusable"


class LabelMapError(OvamError):
    """The bytes are not an indexed PNG of labels, or the labels do not fit in one."""

    code = "label-map-unreadable"


class ExamplesOfOtherModelsError(OvamError):
    """The examples' traces were captured from different models, so that no token can fit them all."""

    code = "examples-of-other-models"


class TokenFamilyError(OvamError):
    """A learned token is of another family of models than the one that it is looked for in; the message names both."""

    code = "token-of-other-family"


class AttentionError(InvalidArgumentError):
    """The model's family has no attention of the kind that a method asks for."""

    code = "attention-unavailable"

    def __init__(self, attention: object, family: str, known: Sequence[str]) -> None:
        """Name the `attention`, the `family` that lacks it, and the ones `known` there."""
        super().__init__("attention", attention, f"for {family}: {', '.join(known)}")


class EmbeddingNotFiniteError(OvamError):
    """An embedding holds values that are no numbers or infinite."""

    code = "embedding-not-finite"


class OptimizationError(OvamError):
    """The loss was not a number from the first epoch on."""

    code = "optimization-failed"


class TokenFileError(OvamError):
    """The bytes are not a file of learned tokens: cut short, corrupt, too large, or of another kind."""

    code = "token-file-unreadable"


class UnsafePickleError(OvamError):
    """A pickle asks for more than arrays, strings and dicts; nothing of it was carried out."""

    code = "token-file-unsafe"


class TokenWidthError(OvamError):
    """A learned token is of another width than the model it is meant for; the message names both."""

    code = "embedding-of-other-width"


def shown(value: object) -> str:
    """Return a value as an error quotes it: its repr, cut short."""
    text = quoted(value)
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."
