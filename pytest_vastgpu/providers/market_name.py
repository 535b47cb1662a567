"""The name of the market behind a URL. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

VAST = "vast.ai"
"""The name of Vast.ai, which is one market under all of its host names."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


def market_name(url: str) -> str:
    """The name under which a market's data are stored: ``vast.ai``, or its normalized URL.

    Upper case in scheme and host, a default port and a trailing slash make no difference. The name has no user name,
    password, query or fragment.

    :raises ValueError: if it is neither a URL nor ``vast.ai``.
    """
    text = url.strip()
    if text.lower() == VAST:
        return VAST
    problem = f"{text[:200]!r} is not the URL of a market, such as http://10.0.0.7:8000, nor {VAST}"
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise ValueError(problem) from error
    if not host or parts.scheme not in _DEFAULT_PORTS or any(character.isspace() for character in text):
        raise ValueError(problem)
    if host == VAST or host.endswith(f".{VAST}"):
        return VAST
    shown = f"[{host}]" if ":" in host else host
    at_port = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{shown}{at_port}{parts.path.rstrip('/')}"
