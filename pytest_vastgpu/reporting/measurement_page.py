"""Builds the page with the numbers and pictures of a run's measurements: one file, without scripts. Pure.

Names of tests, workloads, hosts and what they have said come from others: whatever they are, they are text here.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from collections.abc import Sequence

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.measuring.record import Compared
from pytest_vastgpu.measuring.record import Measured
from pytest_vastgpu.reporting.measured_words import effort
from pytest_vastgpu.reporting.measured_words import load_line
from pytest_vastgpu.reporting.measured_words import metric_name
from pytest_vastgpu.reporting.measured_words import place
from pytest_vastgpu.reporting.measurements import JUDGED
from pytest_vastgpu.reporting.measurements import Kept
from pytest_vastgpu.reporting.measurements import errors
from pytest_vastgpu.reporting.measurements import few
from pytest_vastgpu.reporting.measurements import judged_cells
from pytest_vastgpu.reporting.measurements import notes
from pytest_vastgpu.reporting.measurements import title
from pytest_vastgpu.reporting.pictures import COLOURED
from pytest_vastgpu.reporting.pictures import SERIES
from pytest_vastgpu.reporting.pictures import against
from pytest_vastgpu.reporting.pictures import distribution
from pytest_vastgpu.reporting.pictures import over_commits
from pytest_vastgpu.reporting.pictures import over_load

_FINDINGS = "".join(f"--{finding.value}: light-dark({light}, {dark});" for finding, (light, dark) in COLOURED.items())
_CLASSES = "".join(
    f".{name} {{ --own: var(--{name}) }}"
    for name in [*(finding.value for finding in COLOURED), *(f"series{at}" for at in range(SERIES))]
)
STYLE = f"""
:root {{ color-scheme: light dark; --ground: light-dark(#ffffff, #16181c); --ink: light-dark(#1d1f23, #e7e9ec);
  --faint: light-dark(#5a6068, #a5acb5); --rule: light-dark(#d9dce0, #363b43); {_FINDINGS}
  --series0: light-dark(#00639c, #6cbdf5); --series1: light-dark(#a34a00, #f5a35c);
  --series2: light-dark(#1b6e3c, #7bd49a); --series3: light-dark(#6a3fa0, #c7a6f5) }}
body {{ margin: 0 auto; padding: 12px; max-width: 1100px; background: var(--ground); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; overflow-wrap: anywhere }}
h1 {{ font-size: 1.35em }} h2 {{ font-size: 1.1em; margin: 1.6em 0 0.2em }}
section {{ border-top: 1px solid var(--rule) }}
p {{ margin: 0.3em 0 }} .faint, figcaption {{ color: var(--faint) }} figcaption {{ font-size: 0.9em }}
.pictures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 16px }}
figure {{ margin: 12px 0 }} svg {{ width: 100%; max-width: 520px; display: block }}
table {{ border-collapse: collapse; margin: 10px 0; font-variant-numeric: tabular-nums; max-width: 100% }}
th, td {{ text-align: left; padding: 3px 12px 3px 0; border-bottom: 1px solid var(--rule); vertical-align: top }}
th {{ font-weight: 600 }} td {{ overflow-wrap: normal }}
@media (max-width: 640px) {{ .many th {{ display: none }} .many td {{ display: block; border: 0; padding: 1px 0 }}
  .many td::before {{ content: attr(data-of); display: inline-block; width: 8em; color: var(--faint);
    font-weight: 400 }}
  .many td:empty {{ display: none }}
  .many td:first-child {{ border-top: 1px solid var(--rule); padding-top: 6px;
    font-weight: 600 }} }}
svg text {{ font: 12px system-ui, sans-serif; fill: var(--ink); paint-order: stroke; stroke: var(--ground);
  stroke-width: 3px; stroke-linejoin: round }}
svg .tick {{ fill: var(--faint); font-size: 11px }} .grid {{ stroke: var(--rule) }} .zero {{ stroke: var(--ink) }}
.gate {{ stroke: var(--ink); stroke-width: 2; stroke-dasharray: 2 3 }} {_CLASSES}
polyline {{ fill: none; stroke: var(--own); stroke-width: 2 }} .interval {{ stroke: var(--own); stroke-width: 3 }}
.dot {{ fill: var(--own); stroke: var(--ground); stroke-width: 1.5 }} td.words {{ color: var(--own); font-weight: 600 }}
svg .words {{ fill: var(--own); font-weight: 600 }}
"""
"""Colours by :func:`light-dark`: the reader's own setting decides."""
_NAMES = frozenset(finding.value for finding in COLOURED)
_FEW = 3
"""Columns for which a telephone has room."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Nothing is loaded and nothing runs, whatever a text has in it."""


def sections(kept: Kept) -> str:
    """The part of the page that shows what was kept, a section for each, as HTML."""
    over = "".join(over_load([record for _, record in kept.measured]))
    measured, more = few(kept.measured)
    parts = [
        *(_section(title(*each), _compared(each[1]), each[1].notes) for each in kept.compared),
        *([_section("Over load", f'<div class="pictures">{over}</div>')] if over else []),
        *(_section(title(*each), _measured(each[1]), notes(each[1])) for each in measured),
    ]
    return f"{_faint(more)}{''.join(parts)}"


def page(heading: str, facts: Sequence[str], kept: Kept) -> str:
    """The page as HTML.

    :param facts: Sentences about the run.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_safe(heading)}</title><style>{STYLE}</style></head><body>\n"
        f"<h1>{_safe(f'{heading}: {kept}')}</h1>\n{_faint(facts)}{sections(kept)}</body></html>\n"
    )


def _section(heading: str, body: str, sentences: Sequence[str] = ()) -> str:
    paragraphs = "".join(f"<p>{_safe(each)}</p>" for each in sentences)
    return f"<section><h2>{_safe(heading)}</h2>{body}{paragraphs}</section>\n"


def _measured(record: Measured) -> str:
    found = record.measurement
    rows = [[metric_name(metric), figure.middle, figure.interval] for metric, figure in found.figures.items()]
    failed = errors(record)
    pictures = distribution(found) + over_commits(record)
    return (
        _faint(
            [
                f"{load_line(found.load)}, for {found.seconds:g} s",
                ", ".join(filter(None, [record.workload, place(record)])),
                f"errors: {failed}" if failed else "",
            ]
        )
        + f'<div class="pictures">{pictures}</div>'
        + _table(["metric", "value", "95 % interval"], rows)
        + _faint(found.reasons)
    )


def _compared(record: Compared) -> str:
    sides = [f"baseline: {record.baseline}", f"candidate: {record.candidate}"]
    facts = [load_line(record.load), ", ".join(filter(None, [record.gpu, effort(record)]))]
    rows = [judged_cells(judged) for judged in record.judged]
    why = [f"{metric_name(judged.metric)}: {judged.why}" for judged in record.judged if judged.why]
    return (
        _faint([*sides, *facts])
        + f'<div class="pictures">{against(record.judged)}</div>'
        + _table(JUDGED, rows)
        + "".join(f"<p>{_safe(each)}</p>" for each in why)
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; where there is no room for many columns, each row is a block with a line for each cell.

    A cell that is a finding has its colour.
    """
    head = "".join(f"<th>{_safe(cell)}</th>" for cell in header)
    lines = "".join(f"<tr>{''.join(map(_cell, header, row))}</tr>" for row in rows)
    kind = ' class="many"' if len(header) > _FEW else ""
    return f"<table{kind}><tr>{head}</tr>{lines}</table>"


def _cell(heading: str, text: str) -> str:
    kind = f' class="{text} words"' if text in _NAMES else ""
    return f'<td data-of="{_safe(heading)}"{kind}>{_safe(text)}</td>'


def _faint(texts: Iterable[str]) -> str:
    return "".join(f'<p class="faint">{_safe(text)}</p>' for text in texts if text)


def _safe(text: str) -> str:
    return html.escape(sanitize.line(text))
