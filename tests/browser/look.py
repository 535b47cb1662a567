"""Looks at a page in Chromium, for tests: run by the Python that ``.ci/browser.sh`` has made.

    python look.py SCREENSHOTS CLOSELY PAGE...

CLOSELY is the name of the page that axe-core judges. Prints what it has found as JSON: for each page, by its name, one
object for each width, or each width and colour scheme of the page that is judged.
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

SIZES = ((400, 850), (1600, 900))
SCHEMES = ("light", "dark")
JUDGED = ((400, "dark"), (1600, "light"))
"""Widths and colour schemes in which axe-core judges: that takes long, and colours do not depend on the width."""
NAMES = ("chromium", "chromium-browser")
"""Debian's and Ubuntu's name of the program."""
LINK = "a[href^='#i']"
"""To what is known of an instance, which it opens."""
FOLDED = "[...document.querySelectorAll('details > :not(summary)')].filter(each => !each.checkVisibility()).length"
MEASURE = """() => {
  const seen = selector => [...document.querySelectorAll(selector)].map(each => each.getBoundingClientRect());
  return {
    title: document.title,
    wider: document.documentElement.scrollWidth - window.innerWidth,
    bars: seen("svg rect.step").filter(each => each.width > 0 && each.height > 0).length,
    first: seen("h1, .answers div").every(each => each.bottom <= window.innerHeight),
  };
}"""


def look(
    browser: Any, page: Path, shots: Path, size: tuple[int, int], scheme: str, *, closely: bool
) -> dict[str, object]:
    """What is found at one width, in one colour scheme."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, bypass_csp=True)
    context.set_default_timeout(600_000)  # how long it takes on a busy machine says nothing
    tab = context.new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
    tab.goto(page.as_uri())
    name = f"{page.stem}-{width}-{scheme}"
    tab.screenshot(path=shots / f"{name}-first.png")
    found = tab.evaluate(MEASURE)
    tab.keyboard.press("Tab")
    found["focused"] = tab.evaluate("document.activeElement.className")
    tab.keyboard.press("Enter")
    found["skipped_to"] = tab.evaluate("document.activeElement.id")
    if tab.query_selector(LINK) is not None:
        tab.focus(LINK)
        tab.keyboard.press("Enter")
        tab.wait_for_function("document.querySelector(location.hash || 'none')?.closest('details').open")
    found["folded"] = tab.evaluate(FOLDED)
    tab.emulate_media(media="print")
    found["folded_on_paper"] = tab.evaluate(FOLDED)
    tab.emulate_media(media="screen")
    found["violations"] = judged(tab, shots / f"{name}.png") if closely else []
    context.close()
    return {"width": width, "scheme": scheme, "said": said, **found}


def judged(tab: Any, shot: Path) -> list[str]:
    """What axe-core finds wrong with all of the page, which is kept as a picture."""
    tab.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    tab.screenshot(path=shot, full_page=True)
    axe = Path(str(find_spec("axe_playwright_python").origin)).with_name("axe.min.js")  # type: ignore[union-attr]
    tab.evaluate(axe.read_text(encoding="utf-8"))
    result = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]}" for each in result["violations"]]


def main() -> None:
    """Look at pages, all of them in one browser: to start it takes seconds."""
    from playwright.sync_api import sync_playwright  # type: ignore[import-not-found] # in the other environment

    shots, closely, *pages = map(Path, sys.argv[1:])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=next(filter(None, map(which, NAMES))), args=["--no-sandbox"]
        )
        found = {
            page.stem: [
                look(
                    browser,
                    page,
                    shots,
                    size,
                    scheme,
                    closely=page.stem == closely.name and (size[0], scheme) in JUDGED,
                )
                for size in SIZES
                for scheme in SCHEMES
                if page.stem == closely.name or scheme == "light"
            ]
            for page in pages
        }
        browser.close()
    print(json.dumps(found))  # noqa: T201 - for the test


if __name__ == "__main__":
    main()
