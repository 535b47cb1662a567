"""Variables of the environment that say what account and market are the user's. An empty one counts as not set.

Those of the options, ``VAST_STRICTNESS`` and so on, are read with the options.
"""

from __future__ import annotations

from collections.abc import Mapping

API_KEY = "VAST_API_KEY"
URL = "VAST_URL"
"""The vendor's own variable."""
SSH_KEY_PATH = "VAST_SSH_KEY_PATH"
HOST_CACHE = "VAST_HOST_CACHE"
"""An option's, too: the commands have no options of pytest."""


def api_key(environ: Mapping[str, str]) -> str:
    """The account's key; empty where none is set."""
    return environ.get(API_KEY, "")


def market_url(environ: Mapping[str, str]) -> str:
    """Where the market is; empty where that is left to the default."""
    return environ.get(URL, "")


def ssh_key_path(environ: Mapping[str, str]) -> str:
    """The file of the user's private SSH key, as it was given; empty where none is named."""
    return environ.get(SSH_KEY_PATH, "")


def host_cache(environ: Mapping[str, str]) -> str:
    """The path of the host cache; empty where that is left to the default."""
    return environ.get(HOST_CACHE, "")
