from __future__ import annotations

import pytest

from pytest_vastgpu import completions


def test_a_slowdown_of_vllm_is_found(vast_compare, served_by_vllm):
    """Someone has it answer one request at a time."""
    baseline, candidate = served_by_vllm(), served_by_vllm("--max-num-seqs=1")
    load = completions(model=baseline.model, max_tokens=32, concurrency=4, temperature=0)
    result = vast_compare(baseline=baseline, candidate=candidate, load=load, rounds=3, blocks=1, seconds=3)
    with pytest.raises(AssertionError, match="regression"):
        result.assert_no_regression(output_throughput=0.20)
