"""The program: what `kdna` runs, and `python -m kdna`."""

from __future__ import annotations

import gc
from typing import NoReturn


def run() -> NoReturn:
    """Carry out the command line.

    There is hardly any cyclic garbage: looking for it was a tenth of starting, and would be a sixth of a short command
    when it ends, because the interpreter looks several times at everything before it lets go of it.
    """
    gc.set_threshold(50_000, 20, 20)
    from kdna.cli.main import kdna  # from here on, so that loading it is spared the search too

    try:
        kdna.main()
    finally:
        gc.freeze()
    raise AssertionError("main always exits")


if __name__ == "__main__":
    run()
