"""What Ctrl-C does, from the first import on."""

import os
import sys
from types import FrameType
from typing import NoReturn


def end(number: int, frame: FrameType | None) -> NoReturn:
    """Ends the process with the code that a shell gives to the signal, 130 for Ctrl-C; what it has begun is undone.

    An import may swallow any exception (numpy and importlib do), or leave half a module behind. In the middle of one
    the process ends at once, as if it were killed: what it has started dies with it, what it writes is written whole.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(128 + number)
        frame = frame.f_back
    sys.exit(128 + number)
