"""The answers of an image whose traces are here, computing once what settings share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

import ovam
from experiments.evaluation.asking import Asked
from experiments.evaluation.images import Made, Mask
from experiments.evaluation.settings import Setting, Settings
from experiments.evaluation.studios.maps import Parts, affinity_matrix, heat_of, parts_of, spread
from ovam import Method
from ovam.attention import resize
from ovam.masks import stretched_and_weighed
from ovam.trace import Half


@dataclass(frozen=True, eq=False)
class Target:
    """The rows of an embedding whose maps are averaged."""

    embedding: Float[Tensor, "tokens width"]
    rows: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TraceHeats:
    """The heat of an image under every setting."""

    made: Made
    parts: Mapping[tuple[Asked, Half], Parts]
    matrix: Float[Tensor, "pixels pixels"] | None
    """The mean self-attention, if a setting has use for it."""
    grid: tuple[int, int]
    """Of the matrix's pixels."""
    found: dict[tuple[object, ...], Tensor] = field(default_factory=dict)
    """What was computed before."""

    @classmethod
    def of(cls, made: Made, target: Callable[[Asked], Target], settings: Settings) -> "TraceHeats":
        """Attend to everything that is asked for, once."""
        targets = {asked: target(asked) for asked in dict.fromkeys(setting.asked for setting in settings)}
        wanted = dict.fromkeys((setting.asked, setting.half) for setting in settings)
        parts = {
            (asked, half): parts_of(made.traces[half], targets[asked].embedding, targets[asked].rows) for asked, half in wanted
        }
        layers = made.traces["conditional"].self_attention
        matrix = affinity_matrix(layers) if any(setting.method.refine != "none" for setting in settings) else None
        found = cls(made, parts, matrix, layers[0].grid)
        for setting in settings:
            found.spread(setting)
        return found

    def heat(self, setting: Setting) -> Float[Tensor, "height width"]:
        """What a setting's threshold cuts, as `ovam.refined` has it."""
        method = setting.method
        resized = resize(self.spread(setting)[None], self.made.truth.shape)[0]
        received = self._received() if method.weighs else None
        return stretched_and_weighed(resized, method.rule(), attention=received, alpha=method.alpha, sign=method.sign)

    def mask(self, setting: Setting) -> Mask:
        """A setting's mask, at its own threshold."""
        return ovam.cut(setting.method, self.heat(setting), self.made.image)

    def spread(self, setting: Setting) -> Float[Tensor, "map_height map_width"]:
        """The heat, spread if the method does."""
        method = setting.method
        return self._spread((setting.asked, setting.half), method, method.affinity_steps if method.spreads else 0)

    def _received(self) -> Float[Tensor, "attention_height attention_width"] | None:
        """The weights of Eq. 8."""
        return None if self.matrix is None else self.matrix.sum(dim=0).view(self.grid)

    def _spread(self, asked: tuple[Asked, Half], method: Method, steps: int) -> Float[Tensor, "map_height map_width"]:
        """The heat of a method's blocks and evaluations after some steps, from the step before."""
        name = (asked, str(method.blocks), str(method.evaluations), steps)
        if name not in self.found:
            if steps and self.matrix is not None:
                self.found[name] = spread(self._spread(asked, method, steps - 1), self.matrix, self.grid)
            else:
                self.found[name] = heat_of(self.parts[asked], method.blocks, method.evaluations)
        return self.found[name]
