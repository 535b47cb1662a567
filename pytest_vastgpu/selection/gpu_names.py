"""GPU kinds as the market spells them, to recognise a name that is misspelt. A name that is not here may exist."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_vastgpu.core.text.nearest import nearest_first

KNOWN = tuple(
    """
A10, A16, A30, A40, A100 PCIE, A100 SXM4, A100X, A800 PCIE, B200, B300 SXM6 AC, CMP 50HX, GH200 SXM, GTX 1050 Ti,
GTX 1060, GTX 1070, GTX 1070 Ti, GTX 1080, GTX 1080 Ti, GTX 1650, GTX 1650 S, GTX 1660, GTX 1660 S, GTX 1660 Ti,
H100 NVL, H100 PCIE, H100 SXM, H200, H200 NVL, InstinctMI210, InstinctMI250X, InstinctMI300X, L4, L40, L40S,
Q RTX 4000, Q RTX 6000, Q RTX 8000, Quadro P4000, RTX 2000Ada, RTX 2060, RTX 2060S, RTX 2070, RTX 2070S, RTX 2080,
RTX 2080 Ti, RTX 3050, RTX 3060, RTX 3060 Ti, RTX 3060 laptop, RTX 3070, RTX 3070 Ti, RTX 3080, RTX 3080 Ti, RTX 3090,
RTX 3090 Ti, RTX 4000Ada, RTX 4060, RTX 4060 Ti, RTX 4070, RTX 4070 Ti, RTX 4070S, RTX 4070S Ti, RTX 4080, RTX 4080S,
RTX 4090, RTX 4090D, RTX 4500Ada, RTX 5000Ada, RTX 5060, RTX 5060 Ti, RTX 5070, RTX 5070 Ti, RTX 5080, RTX 5090,
RTX 5880Ada, RTX 6000Ada, RTX A2000, RTX A4000, RTX A4500, RTX A5000, RTX A6000, RTX PRO 4000, RTX PRO 4500,
RTX PRO 5000, RTX PRO 6000 S, RTX PRO 6000 WS, Radeon VII, RX 6800, RX 7900 XTX, Tesla K80, Tesla P4, Tesla P40,
Tesla P100, Tesla T4, Tesla V100, Titan RTX, Titan V, Titan X, Titan Xp
""".replace("\n", " ")
    .strip()
    .split(", ")
)


def spelling(gpu_name: str) -> str:
    """The GPU name as the market spells it; the vendor's command line writes RTX_4090."""
    return gpu_name.strip().replace("_", " ")


def nearest(wanted: str, seen: Iterable[str], most: int = 3) -> list[str]:
    """The names that are most like the one wanted, the nearest first.

    :param seen: Names on offer now.
    """
    return nearest_first(wanted, dict.fromkeys((*sorted(filter(None, seen)), *KNOWN)))[:most]
