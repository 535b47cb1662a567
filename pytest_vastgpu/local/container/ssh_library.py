"""asyncssh, imported without a search that takes as long as its import.

asyncssh looks for liboqs, and so asks the compiler and the linker of this machine. It is for one key exchange among
many, and hardly any machine has it.
"""

from __future__ import annotations

import ctypes.util

__all__ = ["asyncssh"]

_find_library = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if name in {"oqs", "liboqs"} else _find_library(name)
import asyncssh  # noqa: E402 - see above

ctypes.util.find_library = _find_library
