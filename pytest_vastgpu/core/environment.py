"""Environment variables that select the user's account, market and host cache. An empty one counts as not set.

The options' variables, such as ``VAST_STRICTNESS``, are read with the options.
"""

from __future__ import annotations

from collections.abc import Mapping

API_KEY = "VAST_API_KEY"
IMAGE_LOGIN = "VAST_IMAGE_LOGIN"
URL = "VAST_URL"
"""The vendor's own variable."""
SSH_KEY_PATH = "VAST_SSH_KEY_PATH"
HOST_CACHE = "VAST_HOST_CACHE"
BACKEND = "VAST_BACKEND"
"""These two are also variables of options; the commands, which have no pytest options, read them here."""


def api_key(environ: Mapping[str, str]) -> str:
    """The account's key; empty if none is set, or if it is blank."""
    return environ.get(API_KEY, "").strip()


def missing_key(environ: Mapping[str, str]) -> str:
    """Why :func:`api_key` is empty, in words."""
    return f"{API_KEY} is empty" if API_KEY in environ else f"{API_KEY} is not set"


def image_login(environ: Mapping[str, str]) -> str:
    """The user's login at a container registry; empty if none is set."""
    return environ.get(IMAGE_LOGIN, "")


def market_url(environ: Mapping[str, str]) -> str:
    """The market's URL; empty for the default."""
    return environ.get(URL, "")


def ssh_key_path(environ: Mapping[str, str]) -> str:
    """The file of the user's private SSH key, as it was given; empty where none is named."""
    return environ.get(SSH_KEY_PATH, "")


def host_cache(environ: Mapping[str, str]) -> str:
    """The path of the host cache; empty for the default."""
    return environ.get(HOST_CACHE, "")


def only_local(environ: Mapping[str, str]) -> bool:
    """Whether the user rents on this machine only, and so needs no key."""
    return environ.get(BACKEND, "").strip().lower() == "local"
