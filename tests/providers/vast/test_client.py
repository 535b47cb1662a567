from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import CreateUnsettled
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import NoCredit
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.errors import OfferGone
from pytest_vastgpu.errors import OfferRefused
from pytest_vastgpu.errors import RateLimited
from pytest_vastgpu.errors import RequestRejected
from pytest_vastgpu.errors import SearchQuotaExceeded
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.vast.client import MarketClient
from pytest_vastgpu.providers.vast.throttle import Throttle
from pytest_vastgpu.providers.vast.transport import RATE_LIMIT_PATIENCE_S
from pytest_vastgpu.providers.vast.transport import REDIRECTS
from pytest_vastgpu.providers.vast.transport import TRIES
from pytest_vastgpu.providers.vast.transport import ApiRequest
from pytest_vastgpu.selection.offer_query import OfferQuery
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed
from pytest_vastgpu.supervisor.cleanup.destroy import destroy
from tests.providers.conftest import KEY
from tests.providers.vast.scripted import Answer
from tests.providers.vast.scripted import ScriptedServer
from tests.providers.vast.scripted import scripted_server
from tests.support.looks import free_port
from tests.support.vast import search_offers
from tests.support.virtual import VirtualClock

REQUEST = CreateRequest(
    image="vllm/vllm-openai:v0.12.0",
    disk_gb=40,
    label="vastgpu-run-1",
    onstart="touch ~/.no_auto_tmux",
    env={"HF_TOKEN": "hf_very_secret"},
    ports=(8000,),
)
CREATED = {"success": True, "new_contract": 77, "instance_api_key": "d15a"}
EMPTY_LIST = {"success": True, "instances": [], "next_token": None}
LISTED = {"success": True, "instances": [{"id": 77, "label": REQUEST.label}], "next_token": None}
LOST = [
    Answer(silent=True),
    Answer(502, "<html>bad gateway"),
    Answer(200, '{"success": tr', promised=50),
    Answer(200, ""),
]
LOST_IDS = ["no answer", "502", "broke off", "empty"]


def refusal(status: int, error: str, msg: str = "as it says") -> Answer:
    return Answer(status, {"success": False, "error": error, "msg": msg})


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_search_posts_the_query_itself(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer({"offers": []})
    assert search_offers(client, {"num_gpus": {"gte": 1}}) == []
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/api/v0/bundles/", {"num_gpus": {"gte": 1}})
    assert asked.authorization == f"Bearer {KEY}"
    assert asked.query == {}


def test_create_sends_what_keeps_a_rental_from_being_left_behind(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer(CREATED)
    assert client.create(11, REQUEST) == 77
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("PUT", "/api/v0/asks/11/")
    assert asked.body == {
        "image": "vllm/vllm-openai:v0.12.0",
        "disk": 40,
        "label": "vastgpu-run-1",
        "onstart": "touch ~/.no_auto_tmux",
        "env": {"HF_TOKEN": "hf_very_secret", "-p 8000:8000": "1"},
        "runtype": "ssh_direct",
        "target_state": "running",
        "cancel_unavail": True,
    }


def test_the_account_s_keys_in_every_form_that_was_seen(client: MarketClient, server: ScriptedServer) -> None:
    row = {"id": 3, "public_key": "ssh-ed25519 AAAA x"}
    older = {"id": 4, "key": "ssh-ed25519 BBBB y"}
    server.will_answer([row, older, {"public_key": "no id"}], {"keys": [row]}, refusal(404, "not_found"))
    assert [(key.id, key.public_line) for key in client.account_keys()] == [
        (3, "ssh-ed25519 AAAA x"),
        (4, "ssh-ed25519 BBBB y"),
    ]
    assert [key.id for key in client.account_keys()] == [3]
    assert client.account_keys() == []
    server.will_answer({"what": "else"})
    with pytest.raises(MarketAnswerInvalid, match="no list of keys"):
        client.account_keys()
    server.will_answer({"success": True}, refusal(400, "invalid_args", "no_ssh_key: 3"))
    client.delete_account_key(3)
    client.delete_account_key(3)


def test_a_create_carries_the_registry_s_login_and_no_error_shows_it(
    client: MarketClient, server: ScriptedServer
) -> None:
    request = replace(REQUEST, image_login=Secret("-u bob -p s3cret-word ghcr.io"))
    server.will_answer(CREATED, refusal(400, "invalid_args", "no"))
    client.create(11, request)
    assert server.asked[0].body["image_login"] == "-u bob -p s3cret-word ghcr.io"
    with pytest.raises(OfferRefused) as caught:
        client.create(11, request)
    assert "s3cret-word" not in f"{caught.value} {request!r}"


def test_list_follows_pages_and_asks_for_the_label(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer(
        {"instances": [{"id": 1, "label": "mine"}], "next_token": "t2"},
        {"instances": [{"id": 2, "label": "mine"}, {"id": 3, "label": "not mine"}], "next_token": None},
    )
    assert [status.id for status in client.list_instances("mine")] == [1, 2]
    assert [asked.query.get("after_token") for asked in server.asked] == [None, "t2"]
    assert {asked.query["select_filters"] for asked in server.asked} == {'{"label": {"eq": "mine"}}'}


def test_list_without_a_label_gives_all_of_them_and_stops_at_a_token_that_stands_still(
    client: MarketClient, server: ScriptedServer
) -> None:
    page = {"instances": [{"id": 1, "label": None}], "next_token": "same"}
    server.will_answer(page, page)
    assert [status.label for status in client.list_instances()] == ["", ""]


def test_logs_are_fetched_from_the_result_url_without_the_key(
    client: MarketClient, server: ScriptedServer, waited: list[float]
) -> None:
    url = f"{server.url}/instance_logs/abc.log"
    server.will_answer({"success": True, "result_url": url}, Answer(403, "not yet"), Answer(200, "line 1\nline 2\n"))
    assert client.logs(77, tail=50) == "line 1\nline 2\n"
    assert server.asked[0].body == {"tail": "50"}
    assert [asked.authorization for asked in server.asked] == [f"Bearer {KEY}", None, None]
    assert len(waited) == 1


def test_a_log_that_is_never_uploaded_is_given_up(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer({"success": True, "result_url": f"{server.url}/x.log"}, *[Answer(404, "no")] * 30)
    with pytest.raises(MarketAnswerInvalid, match=r"not uploaded in time \(HTTP 404\)"):
        client.logs(77, tail=50)


@pytest.mark.parametrize("url", ["http://a:b/", "/relative.log", "ftp://127.0.0.1/x.log", "http://[::1"])
def test_a_log_at_no_usable_address_is_an_error(client: MarketClient, server: ScriptedServer, url: str) -> None:
    server.will_answer({"success": True, "result_url": url})
    with pytest.raises(MarketAnswerInvalid, match="log of instance 77"):
        client.logs(77, tail=50)


def test_account(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer({"id": 9, "email": "a@example.org", "credit": 4.25, "api_key": "another"})
    account = client.account()
    assert (account.user_id, account.email, account.credit_usd) == (9, "a@example.org", 4.25)
    assert server.calls == ["GET /api/v0/users/current"]


def test_every_exchange_is_reported(server: ScriptedServer, tmp_path: Path) -> None:
    seen: list[ApiRequest] = []
    server.will_answer(Answer(silent=True), {"instances": None})
    throttle = Throttle(tmp_path, "t", wait=lambda _: None)
    with MarketClient(server.url, KEY, throttle, wait=lambda _: None, observer=seen.append) as client:
        client.show(5)
    assert [(call.method, call.endpoint, call.status) for call in seen] == [("GET", "show", None), ("GET", "show", 200)]
    assert all(call.seconds >= 0 for call in seen)


# --- what is gone -----------------------------------------------------------------------------------------------------


OTHER_404S = [
    refusal(404, "no_such_instance"),
    refusal(404, "invalid_instance_id"),
    refusal(404, "no_such_ask"),
    Answer(404, {"detail": "Not Found"}),
    Answer(404, ""),
    Answer(404, "<html>no such page"),
]


@pytest.mark.parametrize(
    "answer", [Answer(body={"instances": None}), Answer(body={"instances": []}), *OTHER_404S], ids=str
)
def test_show_of_an_instance_that_is_gone_is_none(client: MarketClient, server: ScriptedServer, answer: Answer) -> None:
    server.will_answer(answer)
    assert client.show(5) is None


@pytest.mark.parametrize(
    "answer", [Answer(body={"success": True}), refusal(200, "no_such_instance"), *OTHER_404S], ids=str
)
def test_destroy_succeeds_also_when_it_is_gone(client: MarketClient, server: ScriptedServer, answer: Answer) -> None:
    server.will_answer(answer)
    client.destroy(5)
    assert server.calls == ["DELETE /api/v0/instances/5/"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(404, "auth_error", "Invalid user key"), BadApiKey),
        (refusal(404, "not_authorized"), NotAuthorized),
        (refusal(400, "something_else"), RequestRejected),
        (refusal(200, "busy"), RequestRejected),
        (Answer(301, "", {"Location": "https://elsewhere.example/"}), MarketAnswerInvalid),
    ],
    ids=["wrong key", "no right", "no 404", "refused in a 200", "redirect"],
)
def test_nothing_else_is_taken_for_gone(
    client: MarketClient, server: ScriptedServer, answer: Answer, error: type[MarketError]
) -> None:
    server.will_answer(answer, answer)
    with pytest.raises(error):
        client.destroy(5)
    with pytest.raises(error):
        client.show(5)


@pytest.mark.parametrize("code", ["no_such_instance", "invalid_instance_id", ""])
def test_an_instance_that_every_call_answers_with_404_is_destroyed(
    client: MarketClient, server: ScriptedServer, code: str
) -> None:
    gone = refusal(404, code)
    server.will_answer(gone, gone, EMPTY_LIST)
    destroy(client, 5, lambda _: None)
    assert server.calls == ["DELETE /api/v0/instances/5/", "GET /api/v0/instances/5/", "GET /api/v1/instances/"]


@pytest.mark.parametrize(
    "there", [Answer(404, "<html>no such page"), LISTED], ids=["a server that knows no instances", "still listed"]
)
def test_404s_alone_do_not_make_an_instance_destroyed(
    client: MarketClient, server: ScriptedServer, there: Answer | object
) -> None:
    gone = refusal(404, "invalid_instance_id")
    server.will_answer(*[gone, gone, there] * 10)
    clock = VirtualClock()
    with pytest.raises(NotDestroyed, match="vastgpu destroy 77"):
        destroy(client, 77, clock.sleep, Timeouts(destroy_within_s=5.0), clock)


def test_attaching_a_key_twice_is_fine(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer(
        {"success": True, "key": "{}"}, {"success": False, "msg": "SSH key already associated with instance."}
    )
    client.attach_key(5, "ssh-ed25519 AAAA x")
    client.attach_key(5, "ssh-ed25519 AAAA x")
    assert server.asked[1].body == {"ssh_key": "ssh-ed25519 AAAA x"}
    server.will_answer({"success": False, "msg": "SSH key is malformed."})
    with pytest.raises(RequestRejected, match="malformed"):
        client.attach_key(5, "no key")


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(404, "no_such_ask"), OfferGone),
        (refusal(410, "no_such_ask"), OfferGone),
        (refusal(400, "no_such_ask"), OfferGone),
        (refusal(200, "no_such_ask"), OfferGone),
        (refusal(200, "resources_unavailable"), OfferGone),
        (refusal(401, "auth_error"), BadApiKey),
        (refusal(404, "auth_error"), BadApiKey),
        (Answer(401, "who are you"), BadApiKey),
        (refusal(403, "not_authorized"), NotAuthorized),
        (refusal(403, "account_blocked"), OfferRefused),
        (refusal(400, "insufficient_credit"), NoCredit),
        (refusal(400, "missing_billing"), NoCredit),
        (refusal(400, "spend_rate_limit"), NoCredit),
        (Answer(402, "pay"), NoCredit),
        (refusal(400, "invalid_args", "the host has blacklisted you"), OfferRefused),
        (refusal(404, "no_such_machine"), OfferRefused),
        (refusal(410, "withdrawn"), OfferRefused),
        (refusal(200, "busy"), OfferRefused),
        (Answer(404, "not found"), OfferRefused),
        (Answer(410, ""), OfferRefused),
        (Answer(422, {"detail": [{"msg": "Input should be a number", "input": "hf_very_secret"}]}), OfferRefused),
        (Answer(400, "<html>a proxy</html>"), OfferRefused),
        (Answer(409, "conflict"), MarketAnswerInvalid),
    ],
    ids=lambda value: f"{value.status}-{value.body}"[:40] if isinstance(value, Answer) else value.__name__,
)
def test_a_refused_create_is_asked_once_and_says_why(
    client: MarketClient, server: ScriptedServer, answer: Answer, error: type[MarketError]
) -> None:
    server.will_answer(answer, EMPTY_LIST, EMPTY_LIST, EMPTY_LIST, EMPTY_LIST)
    with pytest.raises(error) as caught:
        client.create(11, REQUEST)
    assert caught.value.status == answer.status
    assert f"HTTP {answer.status}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hf_very_secret" not in str(caught.value)
    assert server.calls.count("PUT /api/v0/asks/11/") == 1


@pytest.mark.parametrize(
    ("call", "scope"),
    [
        (lambda client: client.search(OfferQuery((), 10, 64)), "misc"),
        (lambda client: client.create(11, REQUEST), "instance_write"),
        (lambda client: client.destroy(7), "instance_write"),
        (lambda client: client.attach_key(7, "ssh-ed25519 AAAA x"), "instance_write"),
        (lambda client: client.show(7), "instance_read"),
        (lambda client: client.list_instances(), "instance_read"),
        (lambda client: client.logs(7, 5), "instance_read"),
        (lambda client: client.account(), "user_read"),
        (lambda client: client.account_keys(), "user_read"),
        (lambda client: client.delete_account_key(3), "user_write"),
    ],
)
def test_a_scope_that_the_key_lacks_is_named_in_one_line(
    client: MarketClient, server: ScriptedServer, call: Callable[[MarketClient], object], scope: str
) -> None:
    server.will_answer(refusal(403, "not_authorized", "Not authorized"))
    with pytest.raises(NotAuthorized) as caught:
        call(client)
    assert f"lacks the scope {scope}:" in str(caught.value)
    assert "\n" not in str(caught.value)


# --- redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/api/v0/users/me", "{url}/api/v0/users/me", "me?a=1"])
def test_a_redirect_to_the_same_server_is_followed_with_the_key(
    client: MarketClient, server: ScriptedServer, place: str
) -> None:
    moved = Answer(301, "", {"Location": place.replace("{url}", server.url)})
    server.will_answer(moved, {"id": 4, "email": "", "credit": 2.5})
    assert client.account().credit_usd == 2.5
    assert [asked.path for asked in server.asked] == ["/api/v0/users/current", "/api/v0/users/me"]
    assert {asked.authorization for asked in server.asked} == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "place", ["{other}/api/v0/users/current", "//{host}/x", "https://127.0.0.1/x", "ftp://127.0.0.1/x"]
)
def test_a_redirect_to_another_server_never_gets_the_key(
    client: MarketClient, server: ScriptedServer, place: str
) -> None:
    with scripted_server() as other:
        place = place.replace("{other}", other.url).replace("{host}", other.url.removeprefix("http://"))
        server.will_answer(Answer(301, "", {"Location": place}))
        with pytest.raises(MarketAnswerInvalid, match="set VAST_URL to where the API is"):
            client.account()
        assert other.asked == []


def test_redirects_end_and_a_write_is_repeated_only_where_its_method_is_kept(
    client: MarketClient, server: ScriptedServer
) -> None:
    server.will_answer(*[Answer(302, "", {"Location": "/api/v0/users/current"})] * (REDIRECTS + 1))
    with pytest.raises(MarketAnswerInvalid, match=f"more than {REDIRECTS} times"):
        client.account()
    server.will_answer(Answer(308, "", {"Location": "/other/"}), {"success": True})
    client.destroy(7)
    assert server.calls[-1] == "DELETE /other/"
    server.will_answer(Answer(301, "", {"Location": "/other/"}))
    with pytest.raises(MarketAnswerInvalid, match="redirected to"):
        client.destroy(7)


RATE_LIMITS = [
    Answer(429, {"msg": "API requests too frequent", "retry_after": 7}, {"Retry-After": "7"}),
    Answer(429, {"msg": "API requests too frequent", "retry_after": 7}),
    Answer(429, "API requests too frequent: endpoint threshold=2.0"),
    Answer(429, {"detail": "API requests too frequent endpoint threshold=4.5"}),
]


@pytest.mark.parametrize(
    ("answer", "least_s"),
    list(zip(RATE_LIMITS, [7, 7, 4.5, 4.5], strict=True)),
    ids=["header", "body", "text", "detail"],
)
def test_a_rate_limit_is_waited_out_also_for_create(
    client: MarketClient, server: ScriptedServer, waited: list[float], answer: Answer, least_s: float
) -> None:
    server.will_answer(answer, CREATED)
    assert client.create(11, REQUEST) == 77
    assert len(waited) == 1
    assert least_s <= waited[0] <= least_s * 1.25


@pytest.mark.parametrize("answer", [*RATE_LIMITS, Answer(429, "", {"Retry-After": "0"})])
def test_a_rate_limit_that_stays_is_an_error(
    client: MarketClient, server: ScriptedServer, waited: list[float], answer: Answer
) -> None:
    server.will_answer(*[answer] * 100)
    with pytest.raises(RateLimited, match="429"):
        client.list_instances()
    assert 0 < sum(waited) <= RATE_LIMIT_PATIENCE_S * 1.25


def test_a_rate_limit_of_hours_is_not_waited_for(
    client: MarketClient, server: ScriptedServer, waited: list[float]
) -> None:
    server.will_answer(Answer(429, {"msg": "slow down"}, {"Retry-After": "3600"}))
    with pytest.raises(RateLimited) as caught:
        client.list_instances()
    assert caught.value.retry_after_s == 3600
    assert waited == []


def test_the_search_quota_is_told_at_once(client: MarketClient, server: ScriptedServer, waited: list[float]) -> None:
    server.will_answer(Answer(429, {"error": "search_quota_exceeded", "retry_after": 3, "limit": 20000}))
    with pytest.raises(SearchQuotaExceeded, match="daily quota") as caught:
        search_offers(client, {})
    assert caught.value.retry_after_s == 3
    assert waited == []
    assert len(server.asked) == 1


# --- answers that do not come, or not whole ---------------------------------------------------------------------------


@pytest.mark.parametrize("lost", LOST, ids=LOST_IDS)
def test_a_call_that_may_be_repeated_is(
    client: MarketClient, server: ScriptedServer, waited: list[float], lost: Answer
) -> None:
    server.will_answer(*[lost] * (TRIES - 1), {"instances": {"id": 5}})
    status = client.show(5)
    assert status is not None
    assert status.id == 5
    assert len(waited) == TRIES - 1
    assert sum(waited) < 10


@pytest.mark.parametrize("lost", LOST, ids=LOST_IDS)
def test_it_is_not_repeated_for_ever(client: MarketClient, server: ScriptedServer, lost: Answer) -> None:
    server.will_answer(*[lost] * TRIES)
    with pytest.raises((MarketUnreachable, MarketAnswerInvalid)):
        client.destroy(5)
    assert len(server.asked) == TRIES


@pytest.mark.parametrize(
    "body",
    ["[]", "null", '"x"', "{" * 5000, "[" * 100_000, "\x00\x01", "{}", '{"offers": {}}', '{"offers": [{"id": 1}]}'],
    ids=range(9),
)
def test_nonsense_is_an_error_that_shows_a_little_of_it(
    client: MarketClient, server: ScriptedServer, body: str
) -> None:
    server.will_answer(*[Answer(200, body)] * TRIES)
    with pytest.raises(MarketAnswerInvalid) as caught:
        search_offers(client, {})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("body", ["{}", '{"instances": "x"}', '{"instances": [null]}', '{"instances": [{"id": null}]}'])
def test_an_instance_that_cannot_be_read_is_an_error(client: MarketClient, server: ScriptedServer, body: str) -> None:
    server.will_answer(Answer(200, body))
    with pytest.raises(MarketAnswerInvalid):
        client.list_instances()


def test_an_unreachable_market_is_one_clear_line(tmp_path: Path, waited: list[float]) -> None:
    port = free_port()
    throttle = Throttle(tmp_path, "t", wait=lambda _: None)
    with (
        MarketClient(f"http://127.0.0.1:{port}", KEY, throttle, wait=waited.append) as client,
        pytest.raises(MarketUnreachable, match=f"no answer from 127.0.0.1:{port} .*check the network") as caught,
    ):
        client.create(11, REQUEST)
    assert "\n" not in str(caught.value)
    assert len(waited) == TRIES - 1  # never connected, so it may be repeated, and there is nothing to settle


# --- create: lost answers and leftovers -------------------------------------------------------------------------------

LOST_CREATES = [*LOST, Answer(200, {"success": True}), Answer(409, {"msg": "conflict"})]


@pytest.mark.parametrize("lost", LOST_CREATES, ids=[*LOST_IDS, "no id", "409"])
def test_a_lost_create_is_settled_by_its_label_and_never_sent_twice(
    client: MarketClient, server: ScriptedServer, lost: Answer
) -> None:
    server.will_answer(lost, EMPTY_LIST, LISTED)
    assert client.create(11, REQUEST) == 77
    assert server.calls == ["PUT /api/v0/asks/11/", "GET /api/v1/instances/", "GET /api/v1/instances/"]


@pytest.mark.parametrize("lost", LOST_CREATES, ids=[*LOST_IDS, "no id", "409"])
def test_a_lost_create_that_rented_nothing_says_what_was_lost(
    client: MarketClient, server: ScriptedServer, waited: list[float], lost: Answer
) -> None:
    server.will_answer(lost, *[EMPTY_LIST] * 4)
    with pytest.raises((MarketUnreachable, MarketAnswerInvalid), match="create from offer 11"):
        client.create(11, REQUEST)
    assert server.calls.count("GET /api/v1/instances/") == 4
    assert sum(waited) >= 5  # the list may lag behind


def test_a_lost_create_that_cannot_be_asked_about_names_its_label(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer(Answer(silent=True), *[Answer(503, "down")] * TRIES)
    with pytest.raises(CreateUnsettled, match="look for label 'vastgpu-run-1'") as caught:
        client.create(11, REQUEST)
    assert (caught.value.label, caught.value.instance_id) == (REQUEST.label, None)


REFUSED_WITH_LEFTOVER = {"success": False, "error": "unavailable", "msg": "cannot start", "new_contract": 78}


def test_a_leftover_of_a_refused_create_is_destroyed(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer(REFUSED_WITH_LEFTOVER, {"success": True}, {"instances": {"id": 78}}, {"instances": None})
    with pytest.raises(OfferGone, match="cannot start"):
        client.create(11, REQUEST)
    assert server.calls[1:] == ["DELETE /api/v0/instances/78/", *["GET /api/v0/instances/78/"] * 2]


def test_a_leftover_of_a_create_without_credit_is_destroyed_and_credit_is_the_reason(
    client: MarketClient, server: ScriptedServer
) -> None:
    body = {**REFUSED_WITH_LEFTOVER, "error": "insufficient_credit"}
    server.will_answer(body, {"success": True}, {"instances": None})
    with pytest.raises(NoCredit):
        client.create(11, REQUEST)


@pytest.mark.parametrize(
    "then",
    [[Answer(500, "no")] * TRIES, [Answer(body={"success": True}), *[Answer(body={"instances": {"id": 78}})] * 4]],
    ids=["destroy fails", "it stays"],
)
def test_a_leftover_that_stays_carries_its_id(client: MarketClient, server: ScriptedServer, then: list[Answer]) -> None:
    server.will_answer(REFUSED_WITH_LEFTOVER, *then)
    with pytest.raises(CreateUnsettled, match="left instance 78 behind") as caught:
        client.create(11, REQUEST)
    assert (caught.value.label, caught.value.instance_id) == (REQUEST.label, 78)


# --- secrets and bad input --------------------------------------------------------------------------------------------


def test_the_key_is_in_no_text(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer(refusal(401, "auth_error", f"Invalid user key {KEY}"))
    with pytest.raises(BadApiKey) as caught:
        client.account()
    texts: list[Any] = [caught.value, client, vars(client), REQUEST]
    for text in texts:
        assert KEY not in f"{text} {text!r}"
        assert "hf_very_secret" not in f"{text} {text!r}"


@pytest.mark.parametrize(
    "body", ['{"new_contract": "x", "instance_api_key": "d15a99", "x": ', '{"instance_api_key": "d15a99']
)
def test_no_secret_of_an_answer_is_shown(client: MarketClient, server: ScriptedServer, body: str) -> None:
    server.will_answer(Answer(200, body), *[EMPTY_LIST] * 4)
    with pytest.raises(MarketAnswerInvalid) as caught:
        client.create(11, REQUEST)
    assert "instance_api_key" in str(caught.value)
    assert "d15a99" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "  ", "two words", "new\nline", "naïve", "nul\x00"])
def test_a_key_that_no_header_can_carry_is_told_without_showing_it(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigurationError, match="VAST_API_KEY") as caught:
        MarketClient("https://console.vast.ai", key, Throttle(tmp_path, "t"))
    assert key.strip() not in str(caught.value) or not key.strip()


@pytest.mark.parametrize("url", ["", "console.vast.ai", "ftp://x", "http://", "http://[::1", "http://a:b"])
def test_a_url_that_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match="VAST_URL"):
        MarketClient(url, KEY, Throttle(tmp_path, "t"))


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    client: MarketClient, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.will_answer({"instances": None})
    with MarketClient(server.url, KEY, Throttle(tmp_path, "t"), wait=lambda _: None) as client:
        assert client.show(1) is None
