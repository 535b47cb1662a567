"""The part of the page with the measurements and comparisons of a run, and their pictures."""

from __future__ import annotations

from pytest_vastgpu.reporting.measurement_page import STYLE
from pytest_vastgpu.reporting.measurement_page import sections
from pytest_vastgpu.reporting.measurements import NAME
from pytest_vastgpu.reporting.measurements import Kept


def measured(kept: Kept) -> tuple[str, str]:
    """HTML and CSS of what was measured; both empty where nothing was.

    Files that were read back may hold numbers that no measurement has: one that cannot be drawn is named, not shown.
    """
    if not kept.measured and not kept.compared:
        return "", ""
    try:
        return sections(kept), STYLE
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        return f"<p>The numbers in {NAME} cannot be drawn ({type(error).__name__}).</p>", ""
