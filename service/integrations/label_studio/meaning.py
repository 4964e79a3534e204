"""What a label stands for: a word, a learned token, or the token that was learned from the project's own annotations."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from contracts.schema.targets import Target, TokenTarget, WordsTarget
from contracts.schema.tokens import TokenCard
from contracts.state.registry import Registry
from service.integrations.asking import token_named
from service.integrations.label_studio.config import Label

LONGEST_PROJECT, LONGEST_LABEL = 16, 32  # characters, in the name of a token


@dataclass(frozen=True)
class Meaning:
    """What is looked for where a label says so."""

    label: Label
    token: TokenCard | None
    """Without one, the word."""
    learns: str | None
    """The token that annotations of the label teach: its own, or one of the project's. None for a version, and for a token of
    several classes: one label's annotations say nothing of the others."""

    @property
    def target(self) -> Target:
        """The target."""
        if self.token is None:
            return WordsTarget(word=self.label.wanted)
        classes = self.token.classes
        name = next((each for each in (self.label.name, self.label.wanted) if each in classes), None)
        return TokenTarget(token=self.token.reference, class_name=name)


async def meaning_of(label: Label, project: str, model: str | None, registry: Registry) -> Meaning:
    """What a label stands for on images of a model, or of any.

    `name@version` must be a token; it stays as it is. What else names a token is its newest version, anything else a word, until
    the project has annotations of it. Raises unknown-token.
    """
    if (named := await token_named(label.wanted, registry)) is not None:
        pinned = "@" in label.wanted or len(named.classes) > 1
        return Meaning(label, named, None if pinned else named.name)
    learns = token_name(project, label.name)
    learned = await registry.find(learns)
    usable = learned is not None and model in (None, learned.model)
    return Meaning(label, learned if usable else None, learns)


def token_name(project: str, label: str) -> str:
    """The name of the token that a project's annotations of a label teach: readable, and another one for another label."""
    plain = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:LONGEST_LABEL]
    if plain != label.lower():
        plain = f"{plain}-{hashlib.sha256(label.encode()).hexdigest()[:8]}".lstrip("-")
    return f"label-studio-{project.lower()[:LONGEST_PROJECT] or 0}-{plain}"


def version_of(model: str, meanings: Iterable[Meaning]) -> str:
    """What predictions are made with, as Label Studio groups them: the model, and the tokens."""
    tokens = [each.token.reference for each in meanings if each.token is not None]
    return " ".join([model, *dict.fromkeys(tokens)])
