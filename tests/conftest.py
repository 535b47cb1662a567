"""Every test gets a home of its own, and no variable of the person or the CI system that runs it."""

from __future__ import annotations

import os
import random
import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings

from pytest_vastgpu.core.text.redaction import KNOWN

# How long an example takes is the machine's affair, not a property of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

pytest_plugins = ["pytester", "tests.support.hidden"]
collect_ignore = ["third_party_adapter"]  # a package of its own, tested where it is installed: .ci/third-party.sh

SAMPLE = os.environ.get("VASTGPU_SAMPLE", "")
"""Of each slow test at most so many of its cases are run; 0.5: one of every other test. Another sample each time."""
if SAMPLE:  # decided in the process that starts the workers, so that all of them choose the same
    os.environ.setdefault("VASTGPU_SAMPLE_SEED", str(random.SystemRandom().randrange(10**6)))

LONGEST_S = 600
"""A test that takes longer hangs: it fails, and shows where."""


def pytest_configure() -> None:
    """What a job in the background (SIGINT) or of nohup (SIGHUP) is told to ignore, runs that tests start are not."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_report_header() -> list[str]:
    seed = os.environ.get("VASTGPU_SAMPLE_SEED")
    return [f"slow tests: {SAMPLE} cases of each; repeat them with VASTGPU_SAMPLE_SEED={seed}"] if SAMPLE else []


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:  # not in pyproject.toml: the examples run without pytest-timeout, too
        item.add_marker(pytest.mark.timeout(LONGEST_S))
    if not SAMPLE:
        return
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("slow"):
            cases[item.nodeid.partition("[")[0]].append(item)
    dice = random.Random(os.environ["VASTGPU_SAMPLE_SEED"])
    left_out = set()
    for _, group in sorted(cases.items()):
        group.sort(key=lambda item: item.nodeid)
        most = int(float(SAMPLE)) or int(dice.random() < float(SAMPLE))
        left_out |= {item.nodeid for item in dice.sample(group, max(0, len(group) - most))}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
    items[:] = [item for item in items if item.nodeid not in left_out]


OF_THE_DESK = {"BUILD_NUMBER", "CI", "COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR", "PY_COLORS", "PYTEST_ADDOPTS"}
"""What a person or a CI system says of how runs shall look: with ``CI`` pytest shortens nothing."""
OF_OTHERS = ("VAST_", "XDG_", "GITHUB_", "PYTEST_XDIST_")  # a run within a worker of ours is no worker


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name in OF_THE_DESK or name.startswith(OF_OTHERS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(autouse=True)
def _no_secrets_of_others() -> Iterator[None]:
    """What one test's runs know to be secret is none of the next one's."""
    yield
    KNOWN.forget()


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """A market that a test runs in this process handles signals, and leaves it so: its process ends with it."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def home() -> Path:
    """The test's own home directory."""
    return Path(os.environ["HOME"])
