"""Top-k sparsification with error feedback (Stich et al., Sparsified SGD with memory, NeurIPS 2018)."""

from .interface import Array
from .sparse import Sparsifier, Weighting


class TopK(Sparsifier):
    """The ceil(rate * parameters) largest entries of the whole model as float32, positions in Golomb code.

    `residual=False` forgets what was not sent.
    """

    VALUE_BITS = 32

    def __init__(self, rate: float, residual: bool = True, weighting: Weighting = "all") -> None:
        super().__init__(rate, residual, weighting)

    def represented(self, values: Array) -> Array:
        return values
