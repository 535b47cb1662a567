"""What runs is said by markers: on the module, on a class, on a test. The closest one wins."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from pytest_vastgpu import VastInstance
from pytest_vastgpu import command
from pytest_vastgpu import llamacpp

HERE = Path(__file__).parent

language_model = llamacpp(HERE.parent / "quickstart/quickstart-30k.gguf", gpus=0, disk_gb=16)
file_server = command(
    "exec python3 -m http.server 8000 --bind 127.0.0.1",
    files={"greeting.txt": HERE / "greeting.txt"},
    ready_path="/greeting.txt",
    gpus=0,
)

pytestmark = pytest.mark.vast(language_model)


def ask(instance: VastInstance, path: str) -> httpx.Response:
    return httpx.get(f"{instance.endpoint}{path}", headers=instance.headers, timeout=30)


def test_the_modules_marker_names_the_workload(vast_instance: VastInstance):
    assert ask(vast_instance, "/v1/models").json()["data"][0]["id"] == "quickstart-30k"


@pytest.mark.vast(file_server)
class TestFiles:
    instances: ClassVar[set[int]] = set()

    def test_the_classes_marker_wins_over_the_modules(self, vast_instance: VastInstance):
        assert ask(vast_instance, "/greeting.txt").text == "Hello from the instance.\n"
        self.instances.add(vast_instance.id)
        assert len(self.instances) == 1

    def test_tests_with_equal_workloads_share_an_instance(self, vast_instance: VastInstance):
        ask(vast_instance, "/asked-by-this-test")
        assert "GET /asked-by-this-test" in vast_instance.logs()
        self.instances.add(vast_instance.id)
        assert len(self.instances) == 1

    @pytest.mark.vast(language_model)
    def test_a_tests_own_marker_wins_over_all(self, vast_instance: VastInstance):
        assert ask(vast_instance, "/v1/models").status_code == 200


@pytest.mark.vast(disk_gb=8)
def test_keywords_change_the_workload_of_the_marker_around(vast_instance: VastInstance):
    """A smaller disk is another workload, so this test gets an instance of its own; what runs on it stays the same."""
    assert ask(vast_instance, "/v1/models").json()["data"][0]["id"] == "quickstart-30k"
    assert vast_instance.offer.disk_space_gb >= 8
