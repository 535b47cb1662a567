from __future__ import annotations

from pytest_vastgpu.measuring.workload_facts import cpu_of
from pytest_vastgpu.measuring.workload_facts import kind_of
from pytest_vastgpu.measuring.workload_facts import machine_facts
from pytest_vastgpu.measuring.workload_facts import other_model
from pytest_vastgpu.measuring.workload_facts import workload_facts
from pytest_vastgpu.model import Workload
from tests.support.factories import make_offer


def test_the_facts_have_no_value_of_the_environment_no_login_and_no_place_of_this_machine() -> None:
    workload = Workload(
        "command",
        command="exec /home/me/project/bin/serve --model /data/model",
        image="me/image:1",
        image_login="-u me -p hunter22 registry",
        env=(("HF_TOKEN", "hf_abcdefgh"), ("THREADS", "4")),
        files=(("server.py", "/home/me/project/server.py"),),
        args=("--dir=/home/me/project/x",),
        setup="pip install x",
    )
    assert workload_facts(workload, "/home/me/project") == {
        "adapter": "command",
        "command": "exec bin/serve --model /data/model",
        "image": "me/image:1",
        "env": ["HF_TOKEN", "THREADS"],
        "files": ["server.py"],
        "args": ["--dir=x"],
        "setup": "pip install x",
    }


def test_what_a_host_must_have_decides_nothing() -> None:
    assert workload_facts(Workload("vllm", gpu_ram_gb=20, disk_gb=99, gpus=2), "/") == {"adapter": "vllm"}


def test_a_kind_is_the_gpu_without_one_the_cpu_and_never_a_simulated_one() -> None:
    assert kind_of(make_offer(), "RTX 4090", "") == "RTX 4090"
    assert kind_of(make_offer(), "RTX 4090", "16x EPYC") == "RTX 4090"  # the one in this machine
    assert kind_of(make_offer(num_gpus=0), "no GPU", "16x EPYC") == "no GPU, 16x EPYC"
    assert kind_of(make_offer(simulated=True), "RTX 4090", "16x EPYC") == "RTX 4090, simulated by 16x EPYC"
    assert kind_of(make_offer(simulated=True), "RTX 4090", "") == "RTX 4090, simulated by a CPU"


def test_machine_facts_say_what_a_number_depends_on() -> None:
    facts = machine_facts(make_offer(), "")
    assert {key: facts[key] for key in ("machine_id", "driver_version", "geolocation", "price_usd_h")} == {
        "machine_id": 42,
        "driver_version": "570.86.15",
        "geolocation": "Sweden, SE",
        "price_usd_h": 0.36,
    }


def test_a_cpu_is_told_by_its_name_and_cores() -> None:
    assert (
        cpu_of("processor: 0\nmodel name\t: AMD  EPYC 7763\nflags: x\nmodel name\t: other\n", 16) == "16x AMD EPYC 7763"
    )
    assert cpu_of("", 2.5).startswith("2.5x ")


def test_a_load_that_asks_for_another_model_is_told() -> None:
    vllm = Workload("vllm", model="org/model")
    assert other_model("org/modle", vllm).startswith(
        "the load asks for model 'org/modle', and the workload's is 'org/model': a server that ignores the name"
    )
    assert not other_model("org/model", vllm)
    assert not other_model(None, vllm)  # of no such protocol
    assert not other_model("any", Workload("command"))
