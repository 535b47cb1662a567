"""Renders the page of a run, and the panel for the report of pytest-html. Needs Jinja2, the extra ``report``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vastgpu.reporting.measurement_page import POLICY
from pytest_vastgpu.reporting.page import words
from pytest_vastgpu.reporting.page.measured import measured
from pytest_vastgpu.reporting.page.timeline import span
from pytest_vastgpu.reporting.page.timeline import timeline
from pytest_vastgpu.reporting.page.words import Page
from pytest_vastgpu.reporting.sentences import blame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment

    from pytest_vastgpu.reporting.alive import Alive
    from pytest_vastgpu.reporting.run.report import RunReport


def render(report: RunReport, alive: Sequence[Alive] = ()) -> str:
    """The page as HTML. Whatever the run has been told by others is text in it.

    :param alive: What goes on costing money, of a run that ends just now; empty: what its files say.
    """
    sections, style = measured(report.measured)
    template = _environment().get_template("page.html.j2")
    return template.render(
        page=Page(report, alive),
        timeline=timeline(report),
        policy=POLICY,
        style=_file("page.css"),
        measured=sections,
        measured_style=style,
    )


def panel(report: RunReport, link: str = "", alive: Sequence[Alive] = ()) -> str:
    """A fragment of HTML for the report of another tool: what failed, whose fault, what to do, what it cost.

    :param link: Where the whole page is, as a URL; empty: it is not made.
    :param alive: See :func:`render`.
    """
    return _environment().get_template("panel.html.j2").render(page=Page(report, alive), link=link)


@functools.cache
def _environment() -> Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    functions = (words.instance_name, words.outcome, words.steps, words.offer_cells, blame, words.short, span)
    environment.globals.update({each.__name__: each for each in functions})
    return environment


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
