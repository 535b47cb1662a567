"""``LocalMarket``: which fleets it takes, and its errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.embed import LocalMarket
from tests.support.local.api import Api


def test_the_embedded_market_says_when_it_is_not_there() -> None:
    market = LocalMarket()
    with market, pytest.raises(LocalMarketError, match="is running already"):
        market.start()
    with pytest.raises(LocalMarketError, match="does not answer"):
        market.status()
    market.stop()


def test_it_needs_no_home_directory_and_writes_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    with LocalMarket(rate_limits=False) as market, Api(market) as api:
        assert api.offers()
    home.mkdir()
    with LocalMarket(rate_limits=False) as market, Api(market) as api:
        assert api.offers()
        assert not list(home.iterdir())


@pytest.mark.slow
def test_a_fleet_can_be_a_file_or_its_content(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("machines: [{machine_id: 55}]\n")
    for given in (fleet, {"machines": [{"machine_id": 55, "faults": [{"name": "queued", "for_s": float("inf")}]}]}):
        for limits in (None, False):
            with LocalMarket(given, rate_limits=limits) as market, Api(market) as api:
                assert [row["machine_id"] for row in api.offers()] == [55]
                assert api.http.post("/api/v0/bundles/", json={}).status_code == (429 if limits is None else 200)


@pytest.mark.slow
def test_a_fleet_that_cannot_be_written_or_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("machines: [")
    for fleet in ({"machines": [{"gpu_name": "\ud800"}]}, {"machines": {1}}, tmp_path / "none", tmp_path / "broken"):
        with pytest.raises(LocalMarketError) as told:
            LocalMarket(fleet, rate_limits=False).start()
        assert "\n" not in str(told.value)


def test_characters_beyond_the_first_65536_arrive() -> None:
    fleet = {"market": {"rate_limits": False}, "machines": [{"machine_id": 55, "geolocation": "\U0001f1f8 place, SE"}]}
    with LocalMarket(fleet) as market, Api(market) as api:
        assert [row["geolocation"] for row in api.offers()] == ["\U0001f1f8 place, SE"]


@pytest.mark.slow
def test_a_market_that_has_begun_to_start_can_be_waited_for_or_ended() -> None:
    begun = LocalMarket(rate_limits=False)
    begun.begin()
    begun.stop()
    with pytest.raises(LocalMarketError, match="does not answer"):
        begun.status()
    begun.begin()
    begun.start()
    with pytest.raises(LocalMarketError, match="is running already"):
        begun.start()
    assert begun.status()["alive"] == []
    begun.stop()
