"""SSH to an instance: keys, one shared connection, commands and their output, the tunnel."""

from __future__ import annotations

import sys

# Where the task runner invoke is installed, paramiko imports it for a directive of ssh_config that is not used here.
# That is a sixth of all that a supervisor imports before it can rent.
_loaded = sys.modules.get("invoke")
if _loaded is None:
    sys.modules["invoke"] = None  # type: ignore[assignment] # makes `import invoke` fail
import paramiko  # noqa: E402, F401 - see above

if _loaded is None:
    del sys.modules["invoke"]
