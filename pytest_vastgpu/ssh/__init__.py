"""SSH: keys, one connection shared by all, commands and their output, the tunnel."""

from __future__ import annotations

import sys

# Paramiko imports the task runner invoke, where it is installed, for a directive of ssh_config that is not used here:
# a sixth of all that a supervisor loads before it can rent.
_loaded = sys.modules.get("invoke")
if _loaded is None:
    sys.modules["invoke"] = None  # type: ignore[assignment] # what the import system takes for "there is none"
import paramiko  # noqa: E402, F401 - see above

if _loaded is None:
    del sys.modules["invoke"]
