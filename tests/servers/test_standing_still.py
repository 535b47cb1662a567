"""When a server has settled at an answer that no start gives, and what the verdict names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.command import command
from pytest_vastgpu.servers.standing_still import Listener
from pytest_vastgpu.servers.standing_still import StandingStill
from pytest_vastgpu.servers.standing_still import listeners
from pytest_vastgpu.servers.vllm import vllm

ANSWERING = Progress("answering")
OURS = "0100007F:1F40"
ON_9000 = "0100007F:2328"


def answered(status: int, path: str = "/up", redirect: str = "", name: str = "ready", body: str = "") -> str:
    return f"{body}\n@> http://127.0.0.1:8000{path} {redirect}\n@@ {name} {status:03}\n"


def seen(age_s: float, shows: Mapping[str, str] | None = None, still_s: float | None = None) -> Observation:
    """A server that shows this: outputs of probes by their names, and its ``log``."""
    outputs = {"answers": answered(404), "listeners": OURS, "log": "", **(shows or {})}
    log = outputs.pop("log")
    probes = {name: ProbeResult(name, ProbeFailure.NONE, 0, output, "", 0.1) for name, output in outputs.items()}
    return Observation(probes, log, None, age_s, age_s if still_s is None else still_s)


def after(
    *observations: Observation,
    workload: Workload | None = None,
    elsewhere: Mapping[str, int] | None = None,
    progress: Progress = ANSWERING,
) -> Verdict | None:
    """The verdict after these observations, of which each has the newest state.

    :param elsewhere: HTTP status by URL, of what answers where the server was not expected.
    """
    standing = StandingStill(workload or command("serve", ready_path="/up", gpus=0))
    verdict = None
    for each in observations:
        standing.take(each, progress)
        asked = re.findall(r"ask (\w+) '?([^\s']+)'? ", standing.to_ask())
        if asked:
            there = [(name, url, (elsewhere or {}).get(url, 0)) for name, url in asked]
            standing.answered("".join(f"\n@> {url} \n@@ {name} {status}\n" for name, url, status in there if status))
        verdict = standing.verdict()
        if verdict:
            return verdict
    return verdict


def every_5_s(seconds: float, **outputs: str) -> list[Observation]:
    return [seen(float(age), outputs) for age in range(0, int(seconds) + 1, 5)]


def test_a_path_that_answers_404_for_30_s_is_the_workloads_fault_and_the_remedy_names_path_and_status() -> None:
    assert after(*every_5_s(25)) is None
    verdict = after(*every_5_s(30, answers=answered(404, body='<b>{"detail": "Not Found"}</b>')))
    assert verdict is not None
    assert (verdict.failure_class, verdict.reason) == (FailureClass.WORKLOAD_FATAL, "wrong_path")
    assert verdict.remedy.startswith("ready_path='/up' answers 404 on port 8000: give the path that answers 200")
    assert '/up on port 8000 answers 404: {"detail": "Not Found"}' in verdict.evidence


@pytest.mark.parametrize("status", [204, 400, 404, 405, 410, 421])
def test_any_other_status_that_is_no_start_is_settled_too(status: int) -> None:
    verdict = after(*every_5_s(30, answers=answered(status)))
    assert verdict is not None
    assert f"answers {status}" in verdict.remedy


@pytest.mark.parametrize("status", [0, 200, 408, 425, 429, 500, 502, 503, 504])
def test_what_a_starting_server_answers_is_waited_for(status: int) -> None:
    assert after(*every_5_s(900, answers=answered(status))) is None


@pytest.mark.parametrize("path", ["/v2/health/ready", "/v2/models/m/ready"])
def test_triton_that_is_not_ready_is_waited_for(path: str) -> None:
    assert after(*every_5_s(900, answers=answered(400, path))) is None
    assert after(*every_5_s(30, answers=answered(404, path))) is not None


def test_a_refused_key_is_told_at_the_end_of_a_short_warm_up() -> None:
    standing = StandingStill(command("serve", ready_path="/up", gpus=0))
    for age_s in (1, 40):
        standing.take(seen(age_s, {"answers": answered(403)}), ANSWERING)
        assert standing.verdict() is None
    told = standing.verdict(out_of_time=True)
    assert told is not None
    assert (told.failure_class, told.reason) == (FailureClass.WORKLOAD_FATAL, "key_refused")


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_for_two_minutes_is_named(status: int) -> None:
    assert after(*every_5_s(115, answers=answered(status))) is None
    verdict = after(*every_5_s(120, answers=answered(status)))
    assert verdict is not None
    assert (verdict.failure_class, verdict.reason) == (FailureClass.WORKLOAD_FATAL, "key_refused")
    assert f"answers {status}" in verdict.remedy
    assert "VASTGPU_API_KEY" in verdict.remedy


@pytest.mark.parametrize(
    ("moving", "until"),
    [
        ({"gpu": "| 0MiB / 24564MiB |"}, {"gpu": "| 4000MiB / 24564MiB |"}),
        ({"listeners": OURS}, {"listeners": f"{OURS}\n{ON_9000}"}),
        ({"answers": answered(404)}, {"answers": answered(400)}),
        ({"log": "weights: 1%|"}, {"log": "weights: 2%|"}),
        ({"log": "fetched 1.5MB"}, {"log": "fetched 2.5MB"}),
    ],
)
def test_a_server_that_still_moves_has_not_settled(moving: dict[str, str], until: dict[str, str]) -> None:
    first, then = [seen(25.0, moving), seen(54.0, moving)], seen(50.0, until)
    assert after(seen(0.0, moving), then, seen(79.0, until)) is None
    assert after(seen(0.0, moving), first[0]) is None
    assert after(seen(0.0, moving), then, seen(80.0, until)) is not None


def test_a_log_that_shows_something_new_or_a_watcher_that_does_not_run_is_no_standstill() -> None:
    assert after(seen(0.0), seen(400.0, still_s=29.0)) is None
    assert after(seen(0.0), seen(400.0, still_s=30.0)) is not None


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("http://127.0.0.1:8000/up/", "a redirect to http://127.0.0.1:8000/up/: give ready_path='/up/'"),
        ("https://127.0.0.1:8000/up", "a redirect to https://127.0.0.1:8000/up: give a ready_path that answers itself"),
        ("http://login.example/", "a redirect to http://login.example/: give a ready_path that answers itself"),
    ],
)
def test_a_redirect_is_no_answer_and_the_remedy_says_where_it_leads(to: str, words: str) -> None:
    verdict = after(*every_5_s(30, answers=answered(307, redirect=to)))
    assert verdict is not None
    assert verdict.remedy == f"ready_path='/up' answers 307, {words}"


@pytest.mark.parametrize(
    ("listening", "url", "reason", "words"),
    [
        (
            ON_9000,
            "http://127.0.0.1:9000/up",
            "wrong_port",
            "port=8000 of the workload is not the server's: set port=9000",
        ),
        (ON_9000, "https://127.0.0.1:9000/up", "wrong_port", "set port=9000"),
        (OURS, "https://127.0.0.1:8000/up", "https_on_http_port", "speaks HTTPS on port 8000, and is asked by HTTP"),
        (
            "020011AC:1F40",
            "http://172.17.0.2:8000/up",
            "wrong_address",
            "listens on 172.17.0.2:8000, and is asked on 127",
        ),
        (
            "00000000000000000000000001000000:1F40",
            "http://[::1]:8000/up",
            "wrong_address",
            "listens on [::1]:8000, and is asked on 127.0.0.1:8000",
        ),
    ],
)
def test_a_server_that_answers_elsewhere_is_the_workloads_fault_and_both_places_are_named(
    listening: str, url: str, reason: str, words: str
) -> None:
    looks = every_5_s(30, answers=answered(0), listeners=listening)
    assert after(*looks[:-1], elsewhere={url: 200}) is None
    verdict = after(*looks, elsewhere={url: 200})
    assert verdict is not None
    assert (verdict.failure_class, verdict.reason) == (FailureClass.WORKLOAD_FATAL, reason)
    assert words in verdict.remedy
    assert f"{url} answers 200" in verdict.evidence
    assert after(*every_5_s(900, answers=answered(0), listeners=listening)) is None, "nothing speaks HTTP there"


def test_another_port_that_does_not_answer_200_is_waited_for_longer() -> None:
    looks = every_5_s(120, answers=answered(0), listeners=ON_9000)
    elsewhere = {"http://127.0.0.1:9000/up": 404}
    assert after(*looks[:-1], elsewhere=elsewhere) is None
    verdict = after(*looks, elsewhere=elsewhere)
    assert verdict is not None
    assert verdict.reason == "wrong_port"


def test_another_program_on_the_workloads_port_does_not_hide_where_the_server_is() -> None:
    verdict = after(*every_5_s(30, listeners=ON_9000), elsewhere={"http://127.0.0.1:9000/up": 200})
    assert verdict is not None
    assert verdict.reason == "wrong_port"


def test_a_server_that_becomes_ready_while_it_is_asked_elsewhere_is_not_misplaced() -> None:
    looks = every_5_s(25, answers=answered(0), listeners=f"{ON_9000}\n{OURS}")
    late = [seen(float(age), {"answers": answered(503), "listeners": f"{ON_9000}\n{OURS}"}) for age in (28, 33, 60, 90)]
    assert after(*looks, *late, elsewhere={"http://127.0.0.1:9000/up": 200}) is None


def test_what_the_server_prints_because_it_was_asked_elsewhere_is_no_news() -> None:
    shows = {"answers": answered(0), "listeners": ON_9000}
    elsewhere = {"http://127.0.0.1:9000/up": 200}
    before = [seen(0.0, shows), seen(15.0, shows)]
    assert after(*before, seen(16.0, shows, still_s=0.5), seen(30.0, shows, still_s=14.5), elsewhere=elsewhere)
    later = [seen(25.0, shows, still_s=0.5), seen(30.0, shows, still_s=5.5), seen(54.0, shows, still_s=29.5)]
    assert after(*before, *later, elsewhere=elsewhere) is None
    assert after(*before, *later, seen(54.5, shows, still_s=30.0), elsewhere=elsewhere)


def test_a_model_that_is_never_listed() -> None:
    listed = answered(200) + answered(200, "/v1/models", name="models", body='{"data": [{"id": "other"}]}')
    workload = command("serve", model="mine", ready_path="/up", gpus=0)
    verdict = after(*every_5_s(30, answers=listed), workload=workload)
    assert verdict is not None
    assert (verdict.failure_class, verdict.reason) == (FailureClass.WORKLOAD_FATAL, "model_not_listed")
    assert "/v1/models lists other, not mine" in verdict.evidence
    assert "model='mine' of the workload is not served: ask for 'other'" in verdict.remedy


def test_a_server_without_a_list_of_models() -> None:
    answers = answered(200) + answered(404, "/v1/models", name="models")
    verdict = after(*every_5_s(30, answers=answers), workload=command("serve", model="mine", ready_path="/up"))
    assert verdict is not None
    assert verdict.remedy == "/v1/models answers 404, so no model can be found: leave model out of the workload"


def test_addresses_as_the_kernel_writes_them() -> None:
    lines = ("0100007F:1F40", f"{'0' * 24}01000000:0050", "0000000000000000FFFF00000100007F:1F90", "no", ":", "12:zz")
    assert listeners("\n".join(lines)) == (
        Listener("127.0.0.1", 8000),
        Listener("::1", 80),
        Listener("127.0.0.1", 8080),
    )


def test_what_a_server_shows_is_told_where_its_time_runs_out() -> None:
    standing = StandingStill(command("serve", ready_path="/up", gpus=0))
    assert str(standing) == ""
    standing.take(seen(0.0, {"answers": answered(503), "listeners": f"{OURS}\n{ON_9000}"}), ANSWERING)
    assert str(standing) == "/up answers 503; the server listens on 127.0.0.1:8000, 127.0.0.1:9000"


def test_a_server_beside_which_it_starts_is_not_taken_for_it() -> None:
    for others, asked in ((frozenset[int](), True), (frozenset({9000}), False)):
        standing = StandingStill(command("serve", ready_path="/up", gpus=0), others=others)
        for look in every_5_s(25, answers=answered(0), listeners=ON_9000):
            standing.take(look, ANSWERING)
        assert bool(standing.to_ask()) is asked
        assert ("9000" in str(standing)) is asked


def test_a_path_that_the_workload_did_not_name_is_no_mistake_in_it() -> None:
    verdict = after(*every_5_s(30, answers=answered(404, "/health", name="health")), workload=vllm("m", gpus=0))
    assert verdict is not None
    assert verdict.remedy == "/health answers 404 on port 8000, not 200: see what serves there, and below which path"


def test_an_adapters_own_path_that_redirects_is_not_for_the_user_to_change() -> None:
    verdict = after(*every_5_s(30, answers=answered(301, "/v1/models", "http://127.0.0.1:8000/x", name="models")))
    assert verdict is not None
    assert verdict.remedy.endswith("a redirect to http://127.0.0.1:8000/x: have the server answer there itself")


def test_a_server_that_has_the_right_port_and_others_is_busy_and_not_misplaced() -> None:
    """Triton's first inference may take a minute, while its port for metrics answers 200 at any path."""
    looks = every_5_s(120, answers=answered(0), listeners=f"0100007F:1F40\n{ON_9000}")
    assert after(*looks, elsewhere={"http://127.0.0.1:9000/up": 200}) is None
