"""SSH to an instance: keys, one shared connection, commands and their output, the tunnel."""

from __future__ import annotations

from pytest_vastgpu.core.absent import absent

# Where the task runner invoke is installed, paramiko imports it for a directive of ssh_config that is not used here.
# That is a sixth of all that a supervisor imports before it can rent.
with absent("invoke"):
    import paramiko  # noqa: F401 - see above
