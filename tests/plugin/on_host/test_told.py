"""What workers are told, and how their reports are read."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any
from typing import cast

import pytest
from _pytest.junitxml import bin_xml_escape

from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.plugin.on_host import worker_input
from pytest_vastgpu.plugin.on_host.about import About
from pytest_vastgpu.plugin.on_host.hosts import Host
from pytest_vastgpu.plugin.on_host.worker_input import WorkerInputs
from pytest_vastgpu.plugin.on_host.worker_input import shares
from tests.support.factories import make_offer

THERE = "/root/.vastgpu/work/project"


class Node:
    """A worker, as far as it is looked at."""

    def __init__(self, id: str = "gw0", **workerinput: Any) -> None:  # noqa: A002
        self.gateway = SimpleNamespace(id=id)
        self.workerinput = workerinput
        self.workerinfo: dict[str, object] = {}
        self.seen: list[object] = []
        self.told: list[tuple[str, dict[str, Any]]] = []

    def process_from_remote(self, event: object) -> None:
        self.seen.append(event)

    def notify_inproc(self, name: str, **said: Any) -> None:
        self.told.append((name, said))


def host(workers: int = 2, gpus: int = 0) -> Host:
    offer = make_offer(machine_id=4711, num_gpus=gpus, gpu_name="RTX 4090")
    lease = Lease("label", 1, offer, "", {})
    about = About("/usr/bin/python3", "3.11.7", "cpython", PurePosixPath("/root/.vastgpu/work"))
    return Host("host 1", lease, about, workers)


def tell(workers: WorkerInputs, node: Node) -> dict[str, Any]:
    """What a worker is told."""
    hook = workers.pytest_configure_node(cast(Any, node))
    next(hook)
    with contextlib.suppress(StopIteration):
        hook.send(None)
    return cast(dict[str, Any], node.workerinput["vastgpu_host"])


def configured(config: pytest.Config, node: Node) -> dict[str, Any]:
    """What a worker of a run is told."""
    return tell(WorkerInputs(config, lambda _: host(), 4), node)


@pytest.mark.parametrize(
    ("gpus", "workers", "expected"),
    [
        (0, 2, [[], []]),
        (1, 1, [[0]]),
        (2, 2, [[0], [1]]),
        (2, 5, [[0], [1], [0], [1], [0]]),
        (4, 1, [[0, 1, 2, 3]]),
        (4, 2, [[0, 2], [1, 3]]),
        (3, 2, [[0, 2], [1]]),
    ],
)
def test_gpus_are_shared_out(gpus: int, workers: int, expected: list[list[int]]) -> None:
    assert shares(gpus, workers) == expected


def test_a_worker_in_the_place_of_another_gets_its_gpu(pytester: pytest.Pytester) -> None:
    one, rented = Node("gw0"), host(2, gpus=2)
    workers = WorkerInputs(pytester.parseconfig(), lambda _: rented, 2)
    told = [tell(workers, each)["gpus"] for each in (one, Node("gw1"))]
    workers.pytest_testnodedown(cast(Any, one))
    told.append(tell(workers, Node("gw2"))["gpus"])
    assert told == [[0], [1], [0]]


def test_what_another_plugin_tells_its_worker_has_to_be_plain(pytester: pytest.Pytester) -> None:
    workers = WorkerInputs(pytester.parseconfig(), lambda _: host(), 1)
    with pytest.raises(pytest.UsageError, match=r"workerinput\['of_a_plugin'\] cannot be sent to a host \(.*object"):
        tell(workers, Node(of_a_plugin={"a": object()}))


def test_what_workers_have_in_common_is_found_out_once(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be 64 of them, and they are told in the thread that takes their reports."""
    looked: list[str] = []

    class Seen:
        def pytest_addoption(self, parser: pytest.Parser) -> None:
            looked.append("options")

    def entry_points(group: str) -> list[Any]:
        looked.append(group)
        return []

    config = pytester.parseconfig()
    package = SimpleNamespace(metadata={"Name": "pytest-seen"}, version="1")
    monkeypatch.setattr(config.pluginmanager, "list_plugin_distinfo", lambda: [(Seen(), package)])
    monkeypatch.setattr(worker_input, "entry_points", entry_points)
    workers = WorkerInputs(config, lambda _: host(), 64)
    told = [tell(workers, Node(f"gw{number}")) for number in range(3)]
    assert [each["basetemp"] for each in told] == [f"/root/.vastgpu/work/tmp/gw{number}" for number in range(3)]
    assert looked == ["options", "pytest11"]


@pytest.mark.parametrize("option", ["--lf", "--ff", "--nf", "--sw"])
def test_what_pytest_remembers_comes_along_where_it_selects(pytester: pytest.Pytester, option: str) -> None:
    config = pytester.parseconfigure(option)
    assert config.cache is not None
    config.cache.set("cache/lastfailed", {"test_it.py::test_it": True})
    config.cache.set("own/value", 3)
    told = configured(config, Node())
    assert {name: json.loads(text) for name, text in told["cache"].items()} == {
        "v/cache/lastfailed": {"test_it.py::test_it": True},
        "v/cache/nodeids": [],
        "v/cache/stepwise": None,
    }
    assert told["cache_dir"] == "/root/.vastgpu/work/cache"


@pytest.mark.slow
def test_what_pytest_remembers_stays_here_otherwise(pytester: pytest.Pytester) -> None:
    config = pytester.parseconfigure()
    assert config.cache is not None
    config.cache.set("cache/lastfailed", {"test_it.py::test_it": True})
    told = configured(config, Node())
    assert told["cache"] == {}


def test_a_worker_starts_where_pytest_was_called(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makeini("[pytest]")
    monkeypatch.chdir(pytester.mkdir("sub"))
    told = configured(pytester.parseconfig(), Node())
    assert told["directory"] == f"{THERE}/sub"


def warning(module: str = "there_only", name: str = "Own") -> dict[str, object]:
    message: dict[str, object] = dict.fromkeys(("message_args", "file", "line", "source"))
    message.update(message_str="a and b", filename=f"{THERE}/test_it.py", lineno=3)
    for kind in ("message", "category"):
        message[f"{kind}_module"], message[f"{kind}_class_name"] = module, name
    return {"warning_message_data": message, "when": "runtest", "nodeid": "test_it.py::test_it", "location": None}


def test_a_warning_is_known_by_the_name_of_its_class(pytester: pytest.Pytester) -> None:
    config, node = pytester.parseconfig(), Node()
    configured(config, node)
    node.process_from_remote(("warning_recorded", warning()))
    ((name, said),) = node.told
    assert (name, said["when"], said["nodeid"]) == ("warning_recorded", "runtest", "test_it.py::test_it")
    found = said["warning_message"]
    assert (found.category.__name__, found.category.__module__, str(found.message)) == ("Own", "there_only", "a and b")
    assert found.filename == f"{config.rootpath}/test_it.py"
    assert not node.seen


def test_a_warning_of_python_is_one_here(pytester: pytest.Pytester) -> None:
    node = Node()
    configured(pytester.parseconfig(), node)
    node.process_from_remote(("warning_recorded", warning("builtins", "UserWarning")))
    assert node.told[0][1]["warning_message"].category is UserWarning


CRASH = {"path": f"{THERE}/a.py", "lineno": 1, "message": f"{THERE}/a"}


@pytest.mark.parametrize(
    ("longrepr", "here"),
    [
        (f"cannot import '{THERE}/a.py'", "cannot import '{root}/a.py'"),
        ((f"{THERE}/a.py", 3, f"not in {THERE}"), ("{root}/a.py", 3, f"not in {THERE}")),
        (
            {"reprcrash": CRASH, "chain": [({"lines": [f"E {THERE}/a"]}, CRASH, None)]},
            {
                "reprcrash": {**CRASH, "path": "{root}/a.py"},
                "chain": [({"lines": [f"E {THERE}/a"]}, {**CRASH, "path": "{root}/a.py"}, None)],
            },
        ),
        (None, None),
    ],
)
@pytest.mark.parametrize("kind", ["testreport", "collectreport"])
def test_a_report_names_files_of_this_machine(
    pytester: pytest.Pytester, kind: str, longrepr: object, here: object
) -> None:
    config, node = pytester.parseconfig(), Node()
    configured(config, node)
    printed = [("Captured stdout", THERE)]
    node.process_from_remote((kind, {"data": {"longrepr": longrepr, "sections": printed}}))
    (event,) = node.seen
    told = json.loads(json.dumps(here).replace("{root}", str(config.rootpath)))
    assert json.loads(json.dumps(event)) == json.loads(
        json.dumps([kind, {"data": {"longrepr": told, "sections": printed}}])
    )


ODD = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x1b[31mred\x1b[0m",
    "a\tb\r\n",
    "\x08\x0c\x00\x7f",
    "\x1b",
    "\x1b[1;31",
    "ä\x85",
]


def test_what_tests_print_does_not_steer_the_terminal_and_is_the_same_in_junit_files(pytester: pytest.Pytester) -> None:
    node = Node()
    configured(pytester.parseconfig(), node)
    data = {"nodeid": "a\x1b[H", "longrepr": ODD, "sections": [("Captured stdout", ODD[0])], "user_properties": ODD}
    node.process_from_remote(("testreport", {"data": data}))
    node.process_from_remote(("logstart", {"nodeid": "a\x1b[H", "location": ("a\x1b[H", 0, "")}))
    node.process_from_remote(("workerfinished", {"workeroutput": ODD}))
    (_, report), (_, start), (_, end) = cast(list[Any], node.seen)
    told = report["data"]
    assert (told["nodeid"], start["nodeid"], start["location"][0]) == ("a#x1B[H",) * 3
    assert told["sections"] == [("Captured stdout", "#x1B[2J")]
    assert told["longrepr"][:4] == ["#x1B[2J", "#x1B]0;title#x07", ODD[2], ODD[3]]
    assert not any(character in "".join(told["longrepr"][4:]) for character in "\x08\x0c\x00\x7f\x1b")
    in_file = [bin_xml_escape(text).replace("\x7f", "#x7F") for text in (*told["longrepr"], *ODD)]  # pytest 8 leaves it
    assert in_file[: len(ODD)] == in_file[len(ODD) :]
    assert (told["user_properties"], end["workeroutput"]) == (ODD, ODD)


def test_other_events_are_as_they_were(pytester: pytest.Pytester) -> None:
    node = Node()
    configured(pytester.parseconfig(), node)
    event = ("collectionfinish", {"ids": [f"test_it.py::test_it[{THERE}]"]})
    node.process_from_remote(event)
    assert node.seen == [event]


def test_the_first_line_of_a_failure_names_the_host(pytester: pytest.Pytester) -> None:
    node = Node("gw3")
    node.workerinfo = {"sysplatform": "linux", "version_info": (3, 12, 1, "final", 0), "executable": "/usr/bin/python3"}
    WorkerInputs(pytester.parseconfig(), lambda _: host(gpus=2), 1).pytest_testnodeready(cast(Any, node))
    report = pytest.TestReport("a", ("a", 0, "a"), {}, "failed", "what it says", "call")
    report.node = node  # type: ignore[attr-defined]
    assert report.longreprtext.splitlines() == [
        "[gw3] on host 1 (machine 4711, 2x RTX 4090), linux -- Python 3.12.1 /usr/bin/python3",
        "what it says",
    ]


def test_paths_are_carried_over_from_here(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{pytester.path}/src:/elsewhere")
    told = configured(pytester.parseconfig(), Node())
    assert told["python_path"] == [f"{THERE}/src"]
    assert told["runner"] == str(Path(THERE).parent / "runner")
