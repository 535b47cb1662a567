from __future__ import annotations

import pytest

from pytest_vastgpu.providers.market_name import VAST
from pytest_vastgpu.providers.market_name import market_name
from pytest_vastgpu.settings import DEFAULT_URL


@pytest.mark.parametrize(
    "url",
    [
        DEFAULT_URL,
        "https://console.vast.ai/",
        "https://Console.Vast.AI:443/api/v0",
        "http://console.vast.ai",
        "https://me:secret@cloud.vast.ai?api_key=1",
        "https://vast.ai",
        "https://console.vast.ai.",
        "vast.ai",
        " Vast.ai ",
    ],
)
def test_vast_is_one_market(url: str) -> None:
    assert market_name(url) == VAST


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("HTTP://Market.Example:80/", "http://market.example"),
        ("https://market.example:443", "https://market.example"),
        ("https://market.example:80", "https://market.example:80"),
        ("https://me:secret@market.example/vast/?api_key=1#x", "https://market.example/vast"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://notvast.ai", "https://notvast.ai"),
        ("https://vast.ai.example", "https://vast.ai.example"),
        ("https://vast.ai@market.example", "https://market.example"),
    ],
)
def test_any_other_is_known_by_its_url(url: str, name: str) -> None:
    assert market_name(url) == name
    assert market_name(name) == name


@pytest.mark.parametrize(
    "url", ["", "market", "console.vast.ai", "ftp://a", "http://", "http://a:b", "http://[", "http://a b"]
)
def test_what_is_no_market(url: str) -> None:
    with pytest.raises(ValueError, match="is not the URL of a market"):
        market_name(url)
