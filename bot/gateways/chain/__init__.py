"""EVM chains: blocks, reads pinned to a block, prices, positions, and hedges as transactions."""

import contextlib
import sys

# What opens keystores imports py_ecc, and that lifts the limit of recursion of the whole process a hundredfold. Input
# nested without end must go on to be refused by the limit, not fill the stack: import it here, first, and undo that.
_limit = sys.getrecursionlimit()
with contextlib.suppress(ImportError):
    import py_ecc  # noqa: F401
sys.setrecursionlimit(_limit)
