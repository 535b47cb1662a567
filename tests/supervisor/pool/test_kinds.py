"""All hosts of a run are of one GPU kind."""

from __future__ import annotations

import pytest

from pytest_vastgpu.supervisor.pool.kinds import of_one_kind
from tests.support.factories import make_offer


@pytest.mark.parametrize(
    ("kinds", "wanted", "kind", "taken"),
    [
        ("A B B A", 1, "", "A A"),
        ("A B B A", 2, "", "B B"),  # the second B comes before the second A
        ("A B C B", 2, "", "B B"),
        ("A B B C C C", 3, "", "C C C"),
        ("A B B C", 4, "", "B B"),  # none has enough
        ("B A A B", 4, "", "B B"),  # the better of those that have as many
        ("A B B", 2, "A", "A"),  # a host of that kind is there already
        ("B B", 2, "A", ""),
        ("", 2, "", ""),
    ],
)
def test_the_kind_is_the_first_of_which_there_is_enough(kinds: str, wanted: int, kind: str, taken: str) -> None:
    offers = [make_offer(id=number, gpu_name=name) for number, name in enumerate(kinds.split())]
    found = of_one_kind(offers, wanted, kind)
    assert " ".join(offer.gpu_name for offer in found) == taken
    assert [offer.id for offer in found] == sorted(offer.id for offer in found)
