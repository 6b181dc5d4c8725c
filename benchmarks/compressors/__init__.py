"""Gradient compressors of the literature, as references to measure against: same changes in, applied change out.

| class      | sent by a participant                                   | paper                         |
|------------|---------------------------------------------------------|-------------------------------|
| `Dense`    | every entry                                             | McMahan et al., AISTATS 2017  |
| `TopK`     | the largest entries, with error feedback                | Stich et al., NeurIPS 2018    |
| `DGC`      | the largest entries of a locally accumulated momentum   | Lin et al., ICLR 2018         |
| `PowerSGD` | two thin factors for each matrix, with error feedback   | Vogels et al., NeurIPS 2019   |
| `STC`      | signs of the largest entries and their mean magnitude   | Sattler et al., TNNLS 2020    |

Where a paper's method starts from the gradient of one batch, these take the weight change of a participant's local
training. Bytes are those of messages that could be sent as they stand: a receiver that knows the shapes of the model
and the compressor's parameters needs nothing else. Only uploads are counted, and only uploads are compressed.
"""

from .dense import Dense
from .dgc import DGC
from .interface import Arrays, Compressor
from .powersgd import PowerSGD
from .sparse import Weighting
from .stc import STC
from .topk import TopK

__all__ = ["DGC", "STC", "Arrays", "Compressor", "Dense", "PowerSGD", "TopK", "Weighting"]
