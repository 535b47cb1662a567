"""The restricted key of a container: an instance destroys itself, as Vast's documentation shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from tests.support.local.api import Api
from tests.support.local.program import WITHOUT_NAMESPACES
from tests.support.local.program import announced
from tests.support.local.program import namespaces_can_be_forbidden
from tests.support.local.program import served
from tests.support.looks import until
from tests.support.quick import only

FLEET = """
market: {rate_limits: false}
this_machine: true
machines:
  - {machine_id: 700}
  - {machine_id: 800, faults: [container_key_missing]}
"""
CURL = 'curl -sS -X DELETE -H "Authorization: Bearer $CONTAINER_API_KEY" "$VAST_URL/api/v0/instances/$CONTAINER_ID/"'
DESTROY_LATER = f"(until [ -e ~/now ]; do sleep 0.05; done; {CURL}) &\n(sleep 0.3; touch ~/now) &"
"""A start script whose background process destroys the instance after the script has ended."""


@contextmanager
def market_of(folder: Path, *, isolated: bool) -> Iterator[LocalMarket]:
    fleet = folder / "fleet.yaml"
    fleet.write_text(FLEET)
    if not (isolated or namespaces_can_be_forbidden()):
        pytest.skip("namespaces cannot be forbidden to a process here")
    with served("--fleet", str(fleet), within=() if isolated else WITHOUT_NAMESPACES) as process:
        yield announced(process)
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.slow
@pytest.mark.parametrize("isolated", only([True], [True, False]), ids=["isolated", "not_isolated"])
def test_a_background_process_of_the_start_script_destroys_its_own_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: bool
) -> None:
    # A broken proxy of the user must not matter.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with market_of(tmp_path, isolated=isolated) as market, Api(market) as api:
        for machine_id in (1, 700):  # this machine, and a simulated one without a network
            instance_id = api.rent(machine_id, onstart=DESTROY_LATER)
            until(lambda: market.status()["alive"], lambda alive: not alive)
            ended = market.status()["ended"][-1]
            assert ended["id"] == instance_id
            assert "running" in [each["state"] for each in ended["states"]]
        # The call is counted with its answer, a moment after the instance is gone.
        until(
            lambda: [
                (each["key"], each["count"]) for each in market.status()["calls"] if each["endpoint"] == "destroy"
            ],
            lambda destroyed: destroyed == [("container", 2)],
        )


def test_a_container_without_its_key_cannot(tmp_path: Path) -> None:
    with market_of(tmp_path, isolated=True) as market, Api(market) as api:
        script = f'echo "key [$CONTAINER_API_KEY] of $CONTAINER_ID"; {CURL}'
        instance_id = api.rent(800, onstart=script)
        said = api.log(instance_id, lambda text: "}" in text)
        assert said.startswith(f"key [] of {instance_id}\n")
        assert "auth_error" in said
        assert [each["id"] for each in market.status()["alive"]] == [instance_id]
