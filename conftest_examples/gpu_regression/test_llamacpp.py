from __future__ import annotations

import pytest

BUDGET = {"rounds": 3, "blocks": 1, "seconds": 0.5}
"""Seconds instead of minutes: enough for what is looked for here. What is given by default finds 5 %."""


def test_the_same_twice_stays_green(vast_compare, served, load):
    result = vast_compare(baseline=served(), candidate=served(), load=load, **BUDGET)
    result.assert_no_regression(e2e_p50=0.20)


def test_a_slowdown_is_found_and_a_second_host_confirms_it(vast_compare, served, load):
    """Someone has the server read prompts in smaller batches, to save memory."""
    result = vast_compare(baseline=served(), candidate=served("--ubatch-size", "1"), load=load, **BUDGET)
    with pytest.raises(AssertionError, match="regression"):
        result.assert_no_regression(e2e_p50=0.20)
    assert len(result.hosts) == 2
