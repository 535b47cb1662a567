from __future__ import annotations

import pytest

HEAVY = ("asyncssh", "cryptography", "filelock", "httpx", "paramiko", "platformdirs", "starlette", "uvicorn", "yaml")
EACH_RUN = (
    *("core", "core.environment", "option_values", "settings"),
    *("plugin", "plugin.hooks", "plugin.hookspecs", "plugin.options"),
)
OURS = {"pytest_vastgpu", *(f"pytest_vastgpu.{name}" for name in EACH_RUN)}
CONFTEST = """
import sys

def pytest_unconfigure():
    for name in sorted(sys.modules):
        if name.startswith("pytest_vastgpu") or name in {heavy}:
            print("loaded:", name)
    print("rewritten:", *(name for name, module in sys.modules.items()
        if name.startswith("pytest_vastgpu.") and module.__loader__.__module__.startswith("_pytest")))
"""


@pytest.mark.parametrize("options", [(), ("-n", "0")], ids=["plain", "-n 0"])
def test_a_run_that_rents_nothing_loads_next_to_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    # Other plugins load what they like: only ours is there, and xdist where it is asked for.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    xdist = ("-p", "xdist") if options else ()
    pytester.makeconftest(CONFTEST.replace("{heavy}", repr(set(HEAVY))))
    pytester.makepyfile("def test_it():\n    pass\n")
    result = pytester.runpytest_subprocess("-p", "vastgpu", *xdist, *options)
    result.assert_outcomes(passed=1)
    loaded = {line.partition(": ")[2] for line in result.outlines if line.startswith("loaded: ")}
    assert loaded == OURS
    assert "rewritten:" in result.outlines  # and none: pytest's own way to load modules is slow
