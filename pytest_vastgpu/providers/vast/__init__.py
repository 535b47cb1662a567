"""Vast.ai's REST API as typed calls, for Vast.ai and for the local market alike."""

from __future__ import annotations

from pytest_vastgpu.core.absent import absent

# Where click and rich are installed, httpx imports them for its own command line. That takes longer than all of httpx.
with absent("httpx._main"):
    import httpx  # noqa: F401 - see above
