"""What hosts are rented for the selected tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.plugin.on_host.at_home import CollectionError
from pytest_vastgpu.plugin.on_host.at_home import MarkSeen
from pytest_vastgpu.plugin.on_host.at_home import Seen
from pytest_vastgpu.plugin.on_host.hosts import number_of_gpus
from pytest_vastgpu.plugin.on_host.hosts import workloads
from pytest_vastgpu.plugin.on_host.needs import header
from pytest_vastgpu.plugin.on_host.needs import needs
from pytest_vastgpu.plugin.options import resolve_hosts
from pytest_vastgpu.settings import HOST_OPTIONS
from pytest_vastgpu.settings import HostSettings

NO_TORCH = CollectionError("test_k.py", "ModuleNotFoundError", "No module named 'torch'")
KIND = {"gpu_name": "RTX 4090"}


def hosts(**given: str) -> HostSettings:
    named = {f"vast_{name}": value for name, value in {"hosts": "2", **given}.items()}
    return resolve_hosts(named.get, lambda _: None, {})


def mark(test: str, server: str = "", /, **fields: Any) -> MarkSeen:
    return MarkSeen(test, server, fields)


def fields_of(settings: HostSettings, seen: Seen) -> dict[str, Any]:
    found = needs(settings, seen)
    assert found is not None
    return found.fields


def test_without_options_and_marks_nothing_particular_is_needed() -> None:
    assert fields_of(hosts(), Seen(3)) == {}


def test_options_say_what_is_needed() -> None:
    given = {"gpu_name": "RTX 4090", "gpus": "2", "gpu_ram": "20", "compute_cap": "8.9", "cuda": "12.4", "disk": "80"}
    assert fields_of(hosts(**given, image="me/mine:1", setup="make env"), Seen(3)) == {
        "gpu_name": "RTX 4090",
        "gpus": 2,
        "gpu_ram_gb": 20.0,
        "compute_cap": 8.9,
        "cuda": 12.4,
        "disk_gb": 80.0,
        "image": "me/mine:1",
        "setup": "make env",
    }


def test_one_mark_of_all_tests_does_and_tests_without_it_go_along() -> None:
    assert fields_of(hosts(), Seen(9, [mark("test_a", **KIND, image_gb=3)])) == {**KIND, "image_gb": 3}


def test_options_win_field_by_field() -> None:
    seen = Seen(9, [mark("test_a", **KIND, gpus=1, disk_gb=20)])
    assert fields_of(hosts(gpus="4"), seen) == {**KIND, "gpus": 4, "disk_gb": 20}


def test_marks_may_differ_where_an_option_decides() -> None:
    seen = Seen(9, [mark("test_a", **KIND, gpus=1), mark("test_b", **KIND, gpus=2)])
    assert fields_of(hosts(gpus="2"), seen) == {**KIND, "gpus": 2}


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        (
            Seen(9, [mark("a.py::test_a", **KIND), mark("b.py::test_b", gpu_name="H100")]),
            "a.py::test_a and b.py::test_b need different hosts (gpu_name='RTX 4090'; gpu_name='H100'), and all hosts "
            "of a run are alike: say which by --vast-gpu-name, or run them one after the other",
        ),
        (
            Seen(9, [mark("a.py::test_a", **KIND), mark("b.py::test_b", **KIND, model_gb=2)]),
            "a.py::test_a and b.py::test_b need different hosts (no model_gb; model_gb=2), and all hosts of a run are "
            "alike: give them the same mark, or run them one after the other",
        ),
        (
            Seen(9, [mark("a.py::test_a", "vllm 'org/model'", gpu_ram_gb=20)]),
            "a.py::test_a: marker vast: it names a server, vllm 'org/model', and there is none on a host of "
            "--vast-hosts: name only what the host must be like, such as vast(gpu_name='RTX 4090')",
        ),
        (
            Seen(9, asks="a.py::test_a"),
            "a.py::test_a uses an instance with a server, which a test on a host has not: deselect it, or run it "
            "without --vast-hosts (--vast-hosts=0)",
        ),
        (Seen(9, problems=["a.py::test_a: marker vast: gpus=-1 is below 0"]), "a.py::test_a: marker vast: gpus=-1 is "),
        (
            Seen(0, errors=[NO_TORCH]),
            "test_k.py: ModuleNotFoundError: No module named 'torch': it cannot be collected here, so what its tests "
            "need is not known; say it by --vast-gpus, --vast-gpu-name or --vast-gpu-ram, and it is collected on the "
            "hosts alone",
        ),
        (
            Seen(0, errors=[NO_TORCH, CollectionError("test_s.py", "SyntaxError", "invalid syntax")]),
            "test_s.py: SyntaxError: invalid syntax (and 1 more); it would be the same on a host, so nothing is rented",
        ),
        (
            Seen(exit_code=3, said="INTERNALERROR> KeyError: 'x'\x1b[2J"),
            "the tests cannot be collected here, before anything is rented: pytest ended with exit code 3: "
            "INTERNALERROR> KeyError: 'x'",
        ),
        (Seen(exit_code=-11), "the tests cannot be collected here, before anything is rented: pytest ended with exit "),
    ],
)
def test_what_cannot_be_decided_is_one_line(seen: Seen, line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        needs(hosts(), seen)
    assert str(caught.value).startswith(line)
    assert str(caught.value).isprintable()


def test_nothing_selected_needs_nothing() -> None:
    assert needs(hosts(gpus="1"), Seen(0, exit_code=5)) is None


def test_what_cannot_be_imported_here_is_told_where_options_say_what_is_needed() -> None:
    found = needs(hosts(gpus="1"), Seen(0, errors=[NO_TORCH, NO_TORCH], exit_code=2))
    assert found is not None
    assert found.notes == (
        "2 modules cannot be collected here, only on the hosts, and their marks do not count: test_k.py: "
        "ModuleNotFoundError: No module named 'torch' (and 1 more)",
    )


def test_so_is_a_module_that_skips_itself_here_and_is_all_there_is() -> None:
    skipped = CollectionError("test_k.py", "Skipped", "could not import 'torch': No module named 'torch'")
    found = needs(hosts(gpu_ram="40"), Seen(0, errors=[skipped], exit_code=5))
    assert found is not None
    assert found.notes == (
        "1 module cannot be collected here, only on the hosts, and its marks do not count: test_k.py: Skipped: could "
        "not import 'torch': No module named 'torch'",
    )


HEADERS = [
    ({}, {}, (1, 1, ""), "tests run on 2 hosts (command line) with 1 GPU each, 1 worker on each"),
    (
        {"hosts": "1"},
        {},
        (0, 1, "this machine has none"),
        "tests run on 1 host (command line) with no GPU (this machine has none), 1 worker",
    ),
    (
        {"gpu_name": "RTX 4090", "workers_per_host": "3", "setup": "curl https://me:secret@there"},
        {"gpu_name": "RTX 4090", "setup": "curl https://me:secret@there", "gpus": 2, "image_login": "-u me -p secret"},
        (2, 3, ""),
        "tests run on 2 hosts (command line) with 2 GPUs each, 3 workers on each (command line); gpu-name RTX 4090 "
        "(command line), setup … (command line), gpus 2 (marks), image_login … (marks)",
    ),
]


@pytest.mark.parametrize(("given", "fields", "facts", "line"), HEADERS)
def test_the_header_says_what_is_rented_and_where_that_comes_from(
    given: dict[str, str], fields: dict[str, Any], facts: tuple[int, int, str], line: str
) -> None:
    assert header(hosts(**given), fields, *facts) == line


def test_with_v_every_value_is_told_once_and_no_secret() -> None:
    settings = hosts(cuda="12.8", setup="curl https://me:secret@there")
    fields = fields_of(settings, Seen(1, [mark("test_a", disk_gb=20)]))
    rest = settings.unsaid(fields)
    assert rest == [
        "gpu-name none, gpu-ram 0 GB, compute-cap 0, image none, sync none, pass-env none, fetch none, "
        "fetch-tmp no (default)"
    ]
    first = header(settings, fields, 1, 1, "")
    assert first.endswith("; cuda 12.8 (command line), setup … (command line), disk_gb 20 (marks)")
    told = f"{first}, {rest[0]}"
    names = {option.name for option in HOST_OPTIONS} - {"hosts", "workers-per-host", "gpus", "disk"}
    assert {name: told.count(f"{name} ") for name in names} == dict.fromkeys(names, 1)
    assert hosts(**{name.replace("-", "_"): "1" for name in names}).unsaid({"disk_gb"}) == []
    assert "secret" not in told


@pytest.mark.parametrize("option", HOST_OPTIONS, ids=lambda option: option.name)
def test_each_option_is_also_a_variable_and_an_ini_key(option: Any) -> None:
    text = {"N": "3", "GB": "30", "X.Y": "8.9", "": "yes"}.get(option.metavar, "text")
    value = option.parse(text)
    assert value != option.default
    ways = [
        ({option.ini: [text] if option.many else text}, {}, {}, "command line"),
        ({}, {option.variable: text}, {}, option.variable),
        ({}, {}, {option.ini: text}, "ini"),
    ]
    for given, environ, ini, source in ways:
        settings = resolve_hosts(given.get, ini.get, environ)
        assert (getattr(settings, option.field), settings.sources[option.field]) == (value, source)


def test_the_usual_number_of_gpus_is_what_the_market_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert number_of_gpus({}, "local") == (0, "this machine has none")
    assert number_of_gpus({}, "vast") == (1, "")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 0\necho 1\n")
    tool.chmod(0o755)
    assert number_of_gpus({}, "local") == (1, "")
    tool.write_text("#!/bin/sh\nexit 9\n")  # it does not reach the driver
    assert number_of_gpus({}, "local") == (0, "this machine has none")


ASKING = {"gpu_name": "RTX 4090", "gpu_ram": "24", "compute_cap": "8.9", "cuda": "12.8"}


@pytest.mark.parametrize(("option", "value"), ASKING.items())
def test_who_asks_for_something_of_a_gpu_gets_one_or_an_error(
    option: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without nvidia-smi
    asked = fields_of(hosts(**{option: value}), Seen(1))
    assert number_of_gpus(asked, "local") == (1, "")
    marked = fields_of(hosts(), Seen(1, [mark("test_a", **asked)]))
    assert number_of_gpus(marked, "local") == (1, "")
    assert number_of_gpus(fields_of(hosts(**{option: value, "gpus": "0"}), Seen(1)), "local") == (0, "")
    nothing = fields_of(hosts(gpu_ram="0", disk="50", image="me/mine:1"), Seen(1))
    assert number_of_gpus(nothing, "local") == (0, "this machine has none")


@pytest.mark.parametrize("text", ["abc", "-1", "nan", "12.8.1", ""])
def test_a_version_that_is_none_is_told_with_an_example(text: str) -> None:
    with pytest.raises(pytest.UsageError, match=f"^--vast-cuda: '{text}' is not a CUDA version such as 12.8$"):
        hosts(cuda=text)
    with pytest.raises(pytest.UsageError, match=f"^--vast-compute-cap: '{text}' is not a compute capability such as 8"):
        hosts(compute_cap=text)


def test_so_a_host_without_gpu_is_not_rented_for_it(
    pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "another"))  # a home directory is not brought
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("pytest_vastgpu.plugin.on_host.hosts.collect", lambda *_: Seen(1))
    config = pytester.parseconfigure("--vast-backend=local")
    assert [each.gpus for each in workloads(hosts(), config).values()] == [0, 0]
    assert [each.gpus for each in workloads(hosts(gpu_ram="24"), config).values()] == [1, 1]
