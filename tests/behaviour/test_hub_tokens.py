"""Tokens of the Hugging Face hub that a server repeats are in nothing that a run shows or leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.behaviour.conftest import AGGRESSIVE
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import fleet
from tests.behaviour.test_foreign import left_behind

OURS = "hf_OurOwnTokenOurOwnTokenOurOwnTok"
OLD = "hf_OldNameOfItOldNameOfItOldNameOf"
BAKED = "hf_BakedIntoTheImageBakedIntoTheIm"
SHORT = "pl4in-v4lue"
SECRETS = (OURS, OLD, BAKED, SHORT)
SERVER = f"""
import os, sys
ours = os.environ["HF_TOKEN"]
print("Token:", ours, os.environ["HUGGING_FACE_HUB_TOKEN"], "and in the image", "{BAKED}", flush=True)
print(f"GET https://user:{{ours}}@huggingface.co/acme/x?token={{ours}}", os.environ["GREETING"], flush=True)
print({{"hf_token": ours, "headers": {{"authorization": f"Bearer {{ours}}"}}}}, flush=True)
sys.exit(
    "huggingface_hub.errors.GatedRepoError: 403 Client Error.\\n\\nCannot access gated repo for url "
    "https://huggingface.co/acme/x/resolve/main/config.json.\\nAccess to model acme/x is restricted and you are not in "
    f"the authorized list; you are {{ours}}"
)
"""
SUITE = f"""
import pytest
from pytest_vastgpu import command

ENV = {{"HF_TOKEN": "{OURS}", "HUGGING_FACE_HUB_TOKEN": "{OLD}", "GREETING": "{SHORT}"}}

@pytest.mark.vast(command("exec python3 server.py", files={{"server.py": "server.py"}}, gpus=1, env=ENV))
def test_it(vast_instance): pass
"""


@pytest.mark.slow
def test_a_token_that_the_server_prints_is_nowhere_and_the_remedy_says_how_to_give_one(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path
) -> None:
    rent_from(fleet())
    pytester.path.joinpath("server.py").write_text(SERVER)
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-vv", "-l", "--junitxml=junit.xml")
    result.assert_outcomes(errors=1)
    shown = result.stdout.str() + result.stderr.str()
    assert "gated_repo" in shown
    assert "give the token of that account: env={'HF_TOKEN': os.environ['HF_TOKEN']}" in " ".join(shown.split())
    texts = {"terminal": shown, **left_behind(pytester, home)}
    kinds = {Path(name).name for name in texts}
    assert kinds >= {"terminal", "junit.xml", "cost.json", "events.jsonl", "ledger.jsonl", "server.log"}
    for name, text in texts.items():
        assert [secret for secret in SECRETS if secret in text] == [], name
    assert "<HF_TOKEN>" in next(text for name, text in texts.items() if name.endswith("server.log"))


@pytest.mark.slow
def test_our_own_token_is_not_passed_on_silently(
    pytester: pytest.Pytester, rent_from: RentFrom, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """Only what a workload says goes to a machine of strangers."""
    monkeypatch.setenv("HF_TOKEN", OURS)
    rent_from(fleet())
    pytester.path.joinpath("server.py").write_text(
        "import os, sys; sys.exit('it has one' if 'HF_TOKEN' in os.environ else 'Cannot access gated repo for url x')"
    )
    pytester.makepyfile(SUITE.replace(", env=ENV", ""))
    result = pytester.runpytest_inprocess(AGGRESSIVE)
    assert "gated_repo" in result.stdout.str()
    assert "it has one" not in result.stdout.str()
