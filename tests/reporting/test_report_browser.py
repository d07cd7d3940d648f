"""The HTML report in a real browser: its policy, widths, color schemes, print, and the keyboard."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ptblm.reporting.history import RunHistory
from ptblm.reporting.report.page import AnalyzedModel, report_page
from tests.reporting.browser import BROWSER, Browser, Scheme, open_browser
from tests.reporting.test_report import EVIL, analysis, run

__all__ = ["run"]

pytest.importorskip("jinja2")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed"),
]

_BACKGROUND = "getComputedStyle(document.body).backgroundColor"
_LIGHT, _DARK = "rgb(255, 255, 255)", "rgb(18, 22, 28)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page(run: RunHistory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    long = "w" * 300
    models = [AnalyzedModel(analysis(EVIL)), AnalyzedModel(analysis(long), note=long)]
    path.write_text(report_page([run, replace(run, path=Path(f"/{long}"))], models))
    return path


@pytest.mark.parametrize("width", [375, 768, 1280, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_each_width_and_scheme(
    width: int, scheme: Scheme, browser: Browser, page: Path
) -> None:
    browser.show(page, width, scheme)
    browser.value("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(_BACKGROUND) == (_DARK if scheme == "dark" else _LIGHT)
    assert browser.value("document.querySelectorAll('svg').length") > 5
    assert browser.value("document.images.length") == 0


def test_browser_reports_no_problem_and_no_request(browser: Browser, page: Path) -> None:
    browser.problems.clear()
    browser.requests.clear()
    browser.show(page, 1280)
    browser.value("1")
    assert browser.problems == []
    assert browser.requests == [page.as_uri()]


def test_policy_blocks_what_is_not_of_the_page(browser: Browser, page: Path) -> None:
    """The same test reports a problem if there is one."""
    changed = page.with_name("changed.html")
    changed.write_text(
        page.read_text().replace("</main>", "<script>window.ran = 1</script></main>")
    )
    browser.problems.clear()
    browser.show(changed, 1280)
    assert browser.value("window.ran") is None
    assert any("Content Security Policy" in problem for problem in browser.problems)


def test_tab_key_shows_the_tooltip_of_a_token(browser: Browser, page: Path) -> None:
    browser.show(page, 375)
    shown = "getComputedStyle(document.querySelector('.passage .tip')).display"
    assert browser.value(shown) == "none"
    for _ in range(100):
        browser.press_tab()
        if browser.value("document.activeElement.matches('.passage .t')"):
            break
    assert browser.value(shown) == "block"
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    box = browser.value(
        "(box => [box.left, box.right])(document.querySelector('.passage .tip')"
        ".getBoundingClientRect())"
    )
    assert 0 <= box[0] < box[1] <= 375


def test_print_is_light(browser: Browser, page: Path) -> None:
    browser.show(page, 800, "dark", media="print")
    assert browser.value(_BACKGROUND) == _LIGHT
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"


@pytest.mark.parametrize("width", [375, 1280])
def test_text_of_charts_is_legible_and_apart(width: int, browser: Browser, page: Path) -> None:
    browser.show(page, width)
    overlaps = browser.value(
        """[...document.querySelectorAll('.chart')].flatMap(chart => {
          const boxes = [...chart.querySelectorAll('text')].map(e => e.getBoundingClientRect())
            .filter(box => box.width > 0);
          return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => a.left < b.right - 1
            && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
            .map(b => [a.left, a.top, b.left, b.top].join(' ')));
        })"""
    )
    assert overlaps == []
    size = "parseFloat(getComputedStyle(document.querySelector('.chart .tick')).fontSize)"
    scale = "document.querySelector('.chart').getBoundingClientRect().width / 640"
    assert browser.value(f"{size} * {scale}") >= 9
