from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.client.calls import Warm
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.model import MachineRecord
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.planning.document import as_json
from pytest_vastgpu.planning.plan import Found
from pytest_vastgpu.planning.plan import make_plan
from pytest_vastgpu.planning.report import Wording
from pytest_vastgpu.planning.report import duration
from pytest_vastgpu.planning.report import lines
from tests.planning.values import LARGE
from tests.planning.values import OFFERS
from tests.planning.values import SMALL
from tests.planning.values import expect
from tests.planning.values import hosts
from tests.planning.values import plan
from tests.planning.values import settings
from tests.selection.values import offer

COMMAND = Wording("offers for x", "--", lambda name, value: f"--{name}={value}", of_arguments="")


def test_all_that_a_person_asks_before_money_is_spent() -> None:
    known = Reputation(machines={2: MachineRecord(2, successes=3, ready_s=200)})
    found = plan(
        {**expect(LARGE, SMALL, SMALL), "late": Expected(None)}, known=known, credit_usd=1.0, own=1, attempts=2
    )
    assert lines(found, 80) == PLAN.splitlines()


PLAN = """\
vllm 'large': 1 test, 1 instance when collection ends
  #  machine  GPU        country  USD/h  ready in  USD to ready  chance  record
  1  3        A100 PCIE  SE       0.800  4 min     0.0751        80%     -
  in this order, by USD to ready: price x time / chance (balanced)
  removed, of 5 offers seen (one can fail several conditions):
    3 by gpu_ram_gb: at least 40 GB is wanted
    1 by reliability: at least 0.98 is wanted
    1 by price: at most 1.00 USD/h with disk and transfer is wanted

vllm 'small': 2 tests, 1 instance when collection ends
  #  machine  GPU       country  USD/h  ready in  USD to ready  chance  record
  1  2        RTX 4090  SE       0.300  4 min     0.0207        92%     3/0
  2  1        RTX 4090  SE       0.400  4 min     0.0375        80%     -
  … and 1 more
  in this order, by USD to ready: price x time / chance (balanced); record:
  starts that were ready/failed
  cheaper with:
    --vast-strictness=aggressive: machine 4 (RTX 4090) at 0.20 USD/h
  removed, of 5 offers seen (one can fail several conditions):
    1 by reliability: at least 0.98 is wanted
    1 by price: at most 1.00 USD/h with disk and transfer is wanted

market      https://market
credit      1.00 USD, less than the run may cost
order       vllm 'small' on machine 2, vllm 'large' on machine 3; all at the
            same time
first test  in about 6 min (vllm 'large', failed starts included); all of them
            in about 6 min
expected    about 0.65 USD: 0.10 USD until ready, the rest while each is used as
            long as its workload expects (30 min)
how sure    1 of 2 first machines have a record; the others' chances and times
            are assumptions from what the market says of them
at worst    2.27 USD to set aside when collection ends (2 instances of at most 2
            h), of 5 USD (--vast-budget); 3.10 USD if every attempt, up to 2 for
            each workload, lasts 2 h, but nothing is rented that the budget does
            not cover
not known   what 1 test will need: that is known only when they run
not known   what 1 test will rent by vast_instance_factory or vast_compare while
            they run
"""


@pytest.mark.parametrize(
    ("left", "told"),
    [
        ([], {}),
        (["vllm 'small'"], {"vllm 'small'": ["instance 1 is warm, and is used where it still serves"]}),
        (
            ["vllm 'small'", "vllm 'old'"],
            {
                "vllm 'small'": ["instance 1 is warm, and is used where it still serves"],
                "vllm 'large'": ["instance 2 is warm, and its server (vllm 'old') is replaced where this one fits"],
            },
        ),
    ],
)
def test_what_is_warm_is_said_and_the_rest_of_the_plan_is_for_the_case_without_it(
    left: list[str], told: dict[str, list[str]]
) -> None:
    wanted = expect(LARGE, SMALL)
    warm = [Warm(f"label{n}", n, name, 0.3, 2e9, 60.0, 60.0, 5.0) for n, name in enumerate(left, 1)]
    found, without = plan(wanted, warm=warm), plan(wanted)
    for block in "\n".join(lines(found, 120)).split("\n\n")[:2]:
        name, *said = block.splitlines()
        here = [line.strip() for line in said if "is warm" in line]
        assert here == told.get(name.partition(":")[0], [])
        assert ("  otherwise, as without --vast-reuse:" in said) == bool(here)
    rest = [line for line in lines(found, 120) if "is warm" not in line and "otherwise, as" not in line]
    assert rest == lines(without, 120)
    documents = [{each["workload"]: each["warm"] for each in as_json(one)["workloads"]} for one in (found, without)]
    assert {name: len(each) for name, each in documents[0].items() if each} == {name: len(told[name]) for name in told}
    assert not any(documents[1].values())
    for each in documents[0].get("vllm 'large'", []):
        assert each == {"instance_id": 2, "workload": "vllm 'old'", "usd_h": 0.3, "server_is_replaced": True}


def test_of_this_machine_seconds_are_expected_and_no_history_is_told() -> None:
    here = plan(expect(replace(SMALL, image_gb=10)), backend="local")
    assert here.workloads[0].ready_s < 10
    told = " ".join(" ".join(lines(here, 80)).split())
    assert "how sure no history is kept of this machine: chances and times are assumptions" in told
    assert " 99% " in told
    there = plan(expect(replace(SMALL, image_gb=10)))
    assert there.workloads[0].ready_s > 180
    assert "no history" not in "\n".join(lines(there, 80))


@pytest.mark.parametrize("width", [70, 80, 120])
def test_lines_fit_the_terminal(width: int) -> None:
    known = Reputation(machines={2: MachineRecord(2, successes=3), 1: MachineRecord(1, infra_failures=2.5)})
    huge = replace(SMALL, gpu_ram_gb=100, gpu_name="RTX4090")
    found = plan({**expect(LARGE, SMALL, huge), "late": Expected(None)}, known=known, own=1, credit_usd=0.1, budget=1)
    told = lines(found, width)
    assert [line for line in told if len(line) > width] == []


def test_a_wide_terminal_shows_more_columns() -> None:
    (narrow, wide) = (lines(plan(), width)[1] for width in (80, 120))
    assert ("offer" in narrow, "offer" in wide) == (False, True)


def test_where_nothing_fits_it_says_what_to_change_first() -> None:
    told = lines(plan(max_price=0.1), 120)
    assert told[:6] == [
        "vllm 'small': 1 test",
        "  NOTHING TO RENT: none fits",
        "  what to change:",
        "    --vast-max-price=0.30: machine 2 (RTX 4090) at 0.30 USD/h",
        "    --vast-strictness=aggressive with --vast-max-price=0.20: machine 4 (RTX 4090) at 0.20 USD/h",
        "  removed, of 5 offers seen (one can fail several conditions):",
    ]
    assert told[-1] == "problem: vllm 'small': nothing can be rented for it"


def test_a_cheaper_offer_is_named_where_something_fits() -> None:
    told = lines(plan(), 120)
    assert told[told.index("  cheaper with:") + 1] == (
        "    --vast-strictness=aggressive: machine 4 (RTX 4090) at 0.20 USD/h"
    )
    assert "  cheaper with:" not in lines(plan(strictness="aggressive"), 120)


def test_what_the_budget_does_not_cover_is_told() -> None:
    told = "\n".join(lines(plan(expect(LARGE, SMALL), budget=2), 200))
    assert "rented only once another instance is given back: the budget does not cover it beside the others" in told
    assert "what the budget covers at the same time" in told
    told = "\n".join(lines(plan(expect(LARGE, SMALL), budget=1), 200))
    assert "NOT WITHIN THE BUDGET: one instance may cost 1.65 USD until its end of life" in told
    assert "problem: vllm 'large': 1.65 USD would be set aside for one instance, more than --vast-budget 1 USD" in told


def test_hooks_that_change_the_list_are_told() -> None:
    survey = plan().workloads[0].found.survey
    less = make_plan(expect(SMALL), {SMALL: Found(survey, survey.ranked[1:], by_hook=True)}, settings())
    assert any("pytest_vastgpu_modify_offers has changed the list" in line for line in lines(less, 200))
    none = make_plan(expect(SMALL), {SMALL: Found(survey, (), by_hook=True)}, settings())
    assert "  NOTHING TO RENT: the hook pytest_vastgpu_modify_offers has left none of 3 offers" in lines(none, 200)


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ((), "no first machine has a record yet: chances and times are assumptions"),
        ((2,), "1 of 2 first machines have a record; the others' chances and times are assumptions"),
        ((2, 3), "chances and times are from the records of the first machines"),
    ],
)
def test_it_says_how_sure_it_is(known: tuple[int, ...], told: str) -> None:
    reputation = Reputation(machines={each: MachineRecord(each, successes=2) for each in known})
    found = plan(expect(LARGE, SMALL), known=reputation)
    assert any(line.startswith(f"how sure    {told}") for line in lines(found, 200))


def test_the_command_s_words_are_its_own_options() -> None:
    told = "\n".join(lines(plan(max_price=0.1), 200, wording=COMMAND) + lines(plan(budget=0.1), 200, wording=COMMAND))
    assert "    --max-price=0.30: machine 2" in told
    assert "more than --budget 0.1 USD: raise it, or lower --max-lifetime or --max-price" in told
    assert "--vast-" not in told
    assert "collection" not in told
    huge = replace(SMALL, gpu_ram_gb=100)
    assert any(
        line.startswith("    --gpu_ram_gb=40.9: machine 3") for line in lines(plan(expect(huge)), 200, 1, COMMAND)
    )


def test_only_as_many_offers_as_asked_for() -> None:
    told = lines(plan(), 80, 1)
    assert told[3] == "  … and 2 more"
    assert len(as_json(plan(), 1)["workloads"][0]["offers"]) == 1
    assert as_json(plan(), 1)["workloads"][0]["offers_admitted"] == 3


def test_the_document_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan({**expect(LARGE, SMALL), "late": Expected(None)}, credit_usd=7.5, own=2, budget=1)
    told = json.loads(json.dumps(as_json(found), allow_nan=False))
    assert told["possible"] is False
    assert told["problems"] == [": ".join(problem) for problem in found.problems]
    assert told["run"]["set_aside_usd"] == found.set_aside_usd
    assert told["run"]["credit_usd"] == 7.5
    assert (told["run"]["tests_known_when_they_run"], told["run"]["tests_that_rent_themselves"]) == (1, 2)
    large, small = told["workloads"]
    assert (large["budget"], small["budget"]) == ("never", "at once")
    assert large["ready_s"] is None
    assert small["needs"]["gpu_ram_gb"] == 20
    assert {"condition": "gpu_ram_gb", "offers": 3, "wanted": "at least 40 GB", "had": ""} in large["removed"]
    assert small["changes"] == [
        {"steps": ["--vast-strictness=aggressive"], "machine_id": 4, "gpu_name": "RTX 4090", "usd_h": 0.2}
    ]
    first = small["offers"][0]
    assert (first["rank"], first["offer_id"], first["machine_id"], first["record"]) == (1, 12, 2, None)
    assert first["why"].startswith(f"{first['expected_cost_usd']:.4f} USD until ready")
    assert [start["machine_id"] for start in told["starts"]] == [3, 2]


def test_what_others_write_is_made_safe() -> None:
    KNOWN.add("a key", "s3cret-of-the-account")
    evil = offer(gpu_name="RTX\x1b[2J\n::error::s3cret-of-the-account")
    found = plan(offers=[evil])
    for text in ("\n".join(lines(found, 80)), json.dumps(as_json(found))):
        assert "\x1b" not in text
        assert "\n::error" not in text
        assert "s3cret" not in text


def test_thousands_of_offers_are_one_page() -> None:
    many = [replace(OFFERS[0], id=n, machine_id=n, price_usd_h=0.1 + n / 1e5) for n in range(10_000)]
    assert len(lines(plan(offers=many), 80)) < 30


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(45, "45 s"), (89.6, "90 s"), (360, "6 min"), (7200, "2 h"), (7500, "2 h 5 min"), (float("inf"), "never")],
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_hosts_which_are_alike_are_told_together() -> None:
    found = plan(hosts(3), attempts=2, budget=1.5)
    told = lines(found, 80)
    assert told[0] == "host 1 to host 3: the tests run there"
    assert [line for line in told if line.startswith("  #")] == [told[1]]
    assert "  host 3: rented only once another instance is given back: the budget does not" in told
    assert lines(plan(hosts(1)), 80)[0] == "host 1: the tests run there"
    on_top = "bringing the project and making its environment come on top"
    assert on_top in " ".join(" ".join(told).split())
    assert on_top not in " ".join(" ".join(lines(plan(), 80)).split())
    document = as_json(found)
    assert [each["workload"] for each in document["workloads"]] == ["host 1", "host 2", "host 3"]
    assert [each["budget"] for each in document["workloads"]] == ["at once", "at once", "in turn"]
    assert document["run"]["worst_usd"] == 1.5
