"""The public fixture, in a pytest run of its own."""

from __future__ import annotations

import pytest


def test_a_market_for_a_test(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["pytest_vastgpu.local.fixtures"]')
    pytester.makepyfile("""
        import httpx
        import pytest

        seen = []

        def test_rent(vast_local_market):
            market = vast_local_market({"machines": [{"gpu_name": "RTX 3090"}]})
            other = vast_local_market({"machines": [{"faults": ["offer_taken"]}]})
            assert market.url != other.url
            def call(market, method, path, body):
                headers = {"Authorization": f"Bearer {market.api_key}"}
                return httpx.request(method, market.url + path, headers=headers, json=body, trust_env=False)
            def rent(market):
                [offer] = call(market, "POST", "/api/v0/bundles/", {}).json()["offers"]
                return call(market, "PUT", f"/api/v0/asks/{offer['id']}/", {"image": "any"})
            assert rent(market).json()["success"]
            assert rent(other).status_code == 410
            assert len(market.status()["alive"]) == 1
            assert other.status()["alive"] == []
            seen.append(market.url)

        def test_it_is_gone():
            with pytest.raises(httpx.ConnectError):
                httpx.get(seen[0], trust_env=False)

        def test_a_fleet_that_is_none(vast_local_market):
            with pytest.raises(Exception, match="unknown fault 'nonsense'"):
                vast_local_market({"faults": ["nonsense"]})
    """)
    pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:xdist").assert_outcomes(passed=3)
