"""Which offers may be taken for the hosts of a run, which are all of one GPU kind. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pytest_vastgpu.model import Offer


def of_one_kind(offers: Sequence[Offer], wanted: int, kind: str = "") -> Sequence[Offer]:
    """The offers of one GPU kind, in their order.

    It is the kind that is the first to have enough of them, going down from the best offer: so the worst of the offers
    that are taken is as good as it can be. Where no kind has enough, it is the one that has most.

    :param offers: Best first.
    :param wanted: How many instances are wanted.
    :param kind: The kind, where it is decided already; empty: it is not.
    """
    if not kind:
        seen = Counter[str]()
        for offer in offers:
            seen[offer.gpu_name] += 1
            if seen[offer.gpu_name] >= wanted:
                kind = offer.gpu_name
                break
        else:
            kind = max(seen, key=seen.__getitem__, default="")  # the first of those that are equal, which is better
    return [offer for offer in offers if offer.gpu_name == kind]
