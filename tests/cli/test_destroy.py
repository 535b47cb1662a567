from __future__ import annotations

import time

import pytest

from pytest_vastgpu.cli import destroying
from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.main import main
from pytest_vastgpu.core.ledger_record import make_label
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.providers.open import open_provider
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed
from tests.cli.conftest import MakeRun
from tests.supervisor.cleanup.test_recover import rent
from tests.support.limits import UNSPACED
from tests.support.looks import alive


def test_by_id_and_by_label(market: LocalMarket, client: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    labels = [make_label("abcd1234", number, time.time() + 3600) for number in (1, 2)]
    one, two = (rent(client, label) for label in labels)
    assert main(["destroy", str(one)], UNSPACED) == ExitCode.OK
    assert main(["destroy", labels[1]], UNSPACED) == ExitCode.OK
    assert capsys.readouterr().out == f"instance {one} is gone\ninstance {two} is gone\n"
    assert alive(market) == set()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["123", make_label("abcd1234", 7, 2e9)])
def test_one_that_never_existed_is_said(client: Provider, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["destroy", what], UNSPACED) == ExitCode.FAILED
    assert capsys.readouterr().err == (
        f"vastgpu: there is no instance {what} in this account, and no run here has ever rented it\n"
    )


@pytest.mark.slow
def test_one_of_a_run_here_that_is_gone_already_is_told_apart(
    make_run: MakeRun, client: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("abcd1234", alive=False)
    assert main(["destroy", str(run.instance)], UNSPACED) == ExitCode.OK
    capsys.readouterr()
    for word in (str(run.instance), run.label):
        assert main(["destroy", word], UNSPACED) == ExitCode.OK
        assert capsys.readouterr().out == f"instance {run.instance} of run abcd1234 was gone already\n"


@pytest.mark.slow
def test_a_create_that_was_never_carried_out_is_no_instance(
    make_run: MakeRun, client: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("abcd1234", alive=False)
    assert run.ledger is not None
    label = make_label("abcd1234", 2, time.time() + 60)
    run.ledger.write(label, "intended")
    assert main(["destroy", label], UNSPACED) == ExitCode.OK
    assert capsys.readouterr().out == f"no instance carries the label {label}\n"


@pytest.mark.slow
def test_somebody_elses_needs_force(market: LocalMarket, client: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    instance = rent(client, "my training")
    assert main(["destroy", str(instance)], UNSPACED) == ExitCode.FAILED
    assert capsys.readouterr().err == (
        f"vastgpu: instance {instance} is not of pytest-vastgpu (its label is 'my training'): nothing was destroyed; "
        "add --force if it is the one that you mean\n"
    )
    assert alive(market) == {instance}
    assert main(["destroy", "my training"], UNSPACED) == ExitCode.USAGE
    assert "neither an instance's id nor a label" in capsys.readouterr().err
    assert main(["destroy", "--force", str(instance)], UNSPACED) == ExitCode.OK
    assert alive(market) == set()


@pytest.mark.slow
def test_the_start_of_an_id_is_not_enough(
    market: LocalMarket, client: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    instance = rent(client, make_label("abcd1234", 1, time.time() + 3600))
    assert main(["destroy", str(instance)[:-1]], UNSPACED) == ExitCode.FAILED
    assert "there is no instance" in capsys.readouterr().err
    assert alive(market) == {instance}


@pytest.mark.slow
def test_one_that_the_list_does_not_show_is_destroyed_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = {"price_usd_h": 0.2, "faults": [{"name": "list_lags", "times": 1}]}
    fleet = {"market": {"rate_limits": False}, "machines": [machine]}
    with LocalMarket(fleet) as market:
        monkeypatch.setenv("VAST_URL", market.url)
        monkeypatch.setenv("VAST_API_KEY", market.api_key)
        with open_provider(market.url, market.api_key, timeouts=UNSPACED) as client:
            instance = rent(client, make_label("abcd1234", 1, time.time() + 3600))
        assert main(["destroy", str(instance)], UNSPACED) == ExitCode.OK
        assert alive(market) == set()


@pytest.mark.slow
def test_on_the_market_of_a_living_run(
    market: LocalMarket, make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_BACKEND", "local")
    run = make_run("abcd1234", alive=True, embedded=True)
    assert main(["destroy", str(run.instance)], UNSPACED) == ExitCode.OK
    assert capsys.readouterr().out == f"instance {run.instance} is gone\n"
    assert alive(market) == set()


@pytest.mark.slow
def test_what_was_rented_with_another_key_is_not_called_gone(
    market: LocalMarket, make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("abcd1234", alive=False, ends_in_s=-60)
    with LocalMarket({"market": {"rate_limits": False}}) as other:
        monkeypatch.setenv("VAST_URL", other.url)
        monkeypatch.setenv("VAST_API_KEY", other.api_key)
        assert main(["destroy", str(run.instance)], UNSPACED) == ExitCode.MARKET
        assert "set VAST_URL and VAST_API_KEY to that market" in capsys.readouterr().err
    assert alive(market) == {run.instance}


def test_all_of_a_run_and_nothing_else(
    market: LocalMarket, make_run: MakeRun, client: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_run("abcd", alive=False)
    second = rent(client, make_label("abcd", 2, time.time() + 60))
    others = {rent(client, label) for label in (make_label("abcde", 1, time.time() + 60), "abcd")}
    assert main(["destroy", "--run", "abcd"], UNSPACED) == ExitCode.OK
    told = capsys.readouterr().out
    assert set(told.splitlines()) == {f"instance {each} is gone" for each in (first.instance, second)}
    assert alive(market) == others
    assert main(["destroy", "--run", "abcd"], UNSPACED) == ExitCode.OK
    assert capsys.readouterr().out == "no instance of run abcd is alive\n"
    assert main(["destroy", "--run", "nobody"], UNSPACED) == ExitCode.FAILED
    assert capsys.readouterr().err == "vastgpu: no instance of run nobody is alive, and no run here has that name\n"


@pytest.mark.parametrize("arguments", [[], ["7", "--run", "abcd"]])
def test_it_must_be_told_what(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["destroy", *arguments], UNSPACED)
    assert ended.value.code == ExitCode.USAGE
    assert capsys.readouterr().err.startswith("vastgpu destroy: say what: either an instance's ID, or --run ID; see")


@pytest.mark.parametrize("how", ["id", "label", "run"])
def test_a_living_run_learns_that_it_was_destroyed_by_hand(
    how: str, make_run: MakeRun, client: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("abcd1234", alive=True)
    assert run.ledger is not None
    assert not run.ledger.destroyed_by_user(run.label)
    words = {"id": [str(run.instance)], "label": [run.label], "run": ["--run", "abcd1234"]}[how]
    assert main(["destroy", *words], UNSPACED) == ExitCode.OK
    assert run.ledger.destroyed_by_user(run.label)
    assert capsys.readouterr().out == f"instance {run.instance} is gone\n"
    again = "no instance of run abcd1234 is alive" if how == "run" else "of run abcd1234 was gone already"
    assert main(["destroy", *words], UNSPACED) == ExitCode.OK
    assert again in capsys.readouterr().out


@pytest.mark.slow
def test_what_could_not_be_destroyed_is_not_said_to_be(
    make_run: MakeRun, client: Provider, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("abcd1234", alive=True)
    assert run.ledger is not None

    def resists(*_: object) -> None:
        raise NotDestroyed(run.instance, "it resists")

    monkeypatch.setattr(destroying, "destroy", resists)
    assert main(["destroy", str(run.instance)], UNSPACED) == ExitCode.FAILED
    assert "it resists" in capsys.readouterr().err
    assert not run.ledger.destroyed_by_user(run.label)
