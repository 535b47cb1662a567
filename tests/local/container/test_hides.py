"""What an instance sees of this machine where parts of it are hidden."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.container.container import Container
from pytest_vastgpu.local.container.fork_server import ForkServer
from pytest_vastgpu.local.container.isolation import Isolation
from pytest_vastgpu.local.gpu import SimulatedGpu
from tests.support.hidden import CHECKOUT
from tests.support.hidden import hides
from tests.support.hidden import why_not
from tests.support.local.containers import ContainerRunner

GPU = SimulatedGpu("RTX 4090", 24564, "580.65.06", 13.0, 8.9)


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_what_is_hidden_is_empty_for_all_its_processes_and_what_is_its_own_works(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    with ContainerRunner(tmp_path) as runner:
        look = f"cat {mine}; ls -d {CHECKOUT}/* {sys.prefix}/*; nvidia-smi -L | cut -d'(' -f1"
        onstart = f"({look}; command -v python3) > ~/first 2> ~/errors; touch ~/done"
        container = runner.start_one(onstart=onstart, hides=hides(), gpus=(GPU,))
        said = runner.ssh(
            container,
            f"until [ -e done ]; do sleep 0.05; done; cat first; {look}; touch {CHECKOUT}/own $TMPDIR/own; pwd",
        )
        gpu = "GPU 0: NVIDIA GeForce RTX 4090 "
        assert said.stdout.decode().splitlines() == [gpu, f"{sys.base_prefix}/bin/python3", gpu, f"{tmp_path}/1/home"]
    assert not (CHECKOUT / "own").exists()


def test_without_namespaces_nothing_can_be_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ForkServer, "isolation", lambda _: Isolation("none", "this system allows no namespaces"))
    with ContainerRunner(tmp_path) as runner, pytest.raises(LocalMarketError) as refusal:
        runner.run(Container.start(runner.spec(hides=(str(tmp_path),))))
    assert str(refusal.value) == "hides needs isolated instances: this system allows no namespaces"
