"""The dashboard in a real browser: every page, its charts, its table, by keyboard, on a phone, light and dark."""

import http.server
import re
import subprocess
import sys
import threading
from pathlib import Path

import chromium
import dashboard_fixture as fixture
import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "asv_bench" / "dashboard.py"
pytestmark = pytest.mark.skipif(chromium.PROGRAM is None, reason="no chromium here; apt-get install chromium")
PAGES = ("index.html", "cases.html", "history/index.html")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a built dashboard, with curves and with a planted regression."""
    folder = tmp_path_factory.mktemp("dashboard")
    repository, results = fixture.project(folder)
    command = [
        sys.executable,
        str(SCRIPT),
        "build",
        "--root",
        repository,
        "--results",
        results,
        "--out",
        folder / "site",
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder / "site"


@pytest.fixture(scope="module")
def address(site):
    """Where a plain web server of this machine shows it."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(site))

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    with chromium.Browser() as browser:
        yield browser


@pytest.fixture
def page(browser):
    """An empty page as wide as a desk's screen."""
    page = browser.page()
    yield page
    page.close()


# Text whose colour has less than 4.5 times the luminance of what it stands on (WCAG 2.2, 1.4.3).
PALE = """(() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const colour = numbers(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const words = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join(" ").trim();
    if (!words || element.localName === "title" || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(numbers(element.localName === "text" ? style.fill : style.color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${words}: ${ratio.toFixed(2)}`);
  }
  return found;
})()"""


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_every_page(browser, address, width, dark):
    """No console error, no request to elsewhere, no scrolling sideways, readable colours."""
    for name in PAGES:
        page = browser.page(width, dark=dark).open(address + name)
        page.until("document.querySelector('h1, h2') !== null")
        assert page.errors == []
        assert [url for url in page.requests if not url.startswith((address, "data:"))] == []
        assert len(page.requests) >= 3
        assert page.run("document.documentElement.scrollWidth") == width
        if not name.startswith("history"):  # asv-tachyon's colours are its own
            assert page.run(PALE) == []
            background = page.run("getComputedStyle(document.body).backgroundColor")
            assert (background == "rgb(20, 22, 26)") == dark
        page.close()


def test_pages_from_files(browser, site):
    """The front page and the table work without a web server; the history says that it needs one."""
    for name in PAGES:
        page = browser.page().open((site / name).as_uri())
        assert [url for url in page.requests if not url.startswith("file:")] == []
        if name.startswith("history"):
            assert "need JavaScript and a web server" in page.run("document.body.innerText")
        else:
            assert page.errors == []
        page.close()


def test_charts(page, address):
    """Every chart is drawn: it has shapes that take room, and a name for those who cannot see it."""
    page.open(address + "index.html")
    charts = page.run("""[...document.querySelectorAll("svg[role=img]")].map((chart) => ({
      name: chart.getAttribute("aria-label"),
      shapes: [...chart.querySelectorAll("rect, circle")].filter((s) => s.getBoundingClientRect().width > 0.5).length,
      texts: [...chart.querySelectorAll("text")].filter((t) => t.getBoundingClientRect().width > 2).length,
      outside: [...chart.querySelectorAll("rect, circle, text")].filter((s) => {
        const [a, b] = [s.getBoundingClientRect(), chart.getBoundingClientRect()];
        return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1;
      }).length,
    }))""")
    assert len(charts) == 4  # three comparisons and the steps of the gate
    for chart in charts:
        assert chart["shapes"] > 0
        assert chart["texts"] >= 3
        assert chart["outside"] == 0
    assert charts[0]["name"].startswith("Convolution against PyTorch 2.13.0: 150 ratios from 0.50× to 40.9×")
    assert charts[0]["shapes"] > 40
    strips = page.run("document.querySelectorAll('details[open] .strip circle').length")
    assert strips == 150


def test_planted_regression(page, address):
    """The slower commit stands in the list and in the chart."""
    page.open(address + "index.html")
    row = page.run("document.querySelector('section[aria-labelledby=regressions] tbody tr').innerText")
    assert fixture.PLANTED in row
    assert fixture.SUBJECTS[2] in row
    assert "+8.0 %" in row
    assert page.run("document.querySelectorAll('.steps .slower').length") == 1
    above = "document.querySelector('.steps .slower').getBoundingClientRect().bottom"
    assert page.run(f"{above} < document.querySelector('.steps .band').getBoundingClientRect().top")


def test_links(page, address):
    """From a headline to its cases, from a card to its folded family table, from the navigation to each page."""
    page.open(address + "index.html")
    page.run("document.querySelectorAll('.cards:not(.large) .links a')[0].click()")
    page.until("location.pathname.endsWith('cases.html') && document.getElementById('of')?.value")
    assert page.run("document.getElementById('of').value") == "conv-pytorch-channels-last"
    assert page.run("document.getElementById('count').textContent").startswith("150 of 301 cases, 0 with")
    page.open(address + "index.html")
    folded = "document.getElementById('twin-numpy-twin').open"
    assert page.run(folded) is False
    page.run("document.querySelectorAll('.cards.large .card')[1].querySelectorAll('.links a')[1].click()")
    page.until(folded)
    page.run("document.querySelector('nav a:last-child').click()")
    page.until("location.pathname.endsWith('history/index.html') && document.querySelector('canvas, svg') !== null")
    page.until("document.body.innerText.includes('conv.Conv2d.time_native')")
    page.run("document.querySelector('.cg-bar p a').click()")
    page.until("location.hash === '#regressions' && document.getElementById('regressions') !== null")
    assert page.errors == []


RATIOS = "[...document.querySelectorAll('#cases tbody .ratio')].map((cell) => Number(cell.dataset.v))"


def test_filters(page, address):
    """They narrow the table together, stay in the address, and are cleared."""
    page.open(address + "cases.html")
    assert page.run("document.querySelectorAll('#cases tbody tr').length") == 100
    assert page.run(RATIOS) == sorted(page.run(RATIOS))  # the worst first

    def choose(name, value):
        page.run(
            f"(() => {{ const c = document.getElementById('{name}'); c.value = '{value}'; "
            "c.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    choose("side", "slower")
    assert page.run("document.getElementById('count').textContent").startswith("24 of 301 cases, 24 with")
    choose("threads", "2")
    choose("text", "DIRECT 17,")
    slower = page.run("document.getElementById('count').textContent")
    assert slower == "1 of 301 cases, 1 with the peer faster"
    again = page.run("location.href")
    assert "side=slower" in again
    page.open("about:blank")
    page.open(again)
    assert page.run("document.getElementById('count').textContent") == slower
    assert all(ratio < 1 for ratio in page.run(RATIOS))
    page.run("document.querySelector('#filters button[type=reset]').click()")
    page.until("document.getElementById('count').textContent.startsWith('301 of 301')")
    choose("text", "no such case")
    assert page.run("document.getElementById('count').textContent").startswith("0 of 301 cases")
    assert page.errors == []


def test_keyboard(page, address):
    """With the keyboard alone: skip to the figures, sort by a column, show more; what has the focus can be seen."""
    page.open(address + "cases.html")
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    assert page.run("document.activeElement.getBoundingClientRect().left >= 0")
    page.press("Enter")
    page.until("document.activeElement.id === 'main'")
    order = []
    for _ in range(12):
        page.press("Tab")
        order.append(page.run("document.activeElement.textContent.slice(0, 10) + document.activeElement.id"))
        assert page.run("getComputedStyle(document.activeElement).outlineStyle") in ("solid", "auto")
        if order[-1] == "Ratio":
            break
    assert order[-6:] == ["Comparison", "Case", "Threads", "convgrad", "Peer", "Ratio"]
    page.press("Enter")
    assert page.run("document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "descending"
    ratios = page.run(RATIOS)
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] == pytest.approx(0.5 * 1.03**149, abs=1e-3)
    page.run("document.getElementById('more').focus()")
    page.press("Enter")
    assert page.run("document.querySelectorAll('#cases tbody tr').length") == 301
    assert page.run("document.activeElement.closest('tr').sectionRowIndex") == 100
    assert page.errors == []


VIEWS = ("Explore", "Heatmap", "Grid", "Multiples", "Compare", "Regressions", "Inventory", "Overview")


def test_curves(page, address):
    """asv-tachyon opens every view, draws a curve of ink, knows the commits, and accuses none of them."""
    page.open(address + "history/index.html")
    page.until("document.body.innerText.includes('conv.Conv2d.time_native')")
    for view in VIEWS:
        page.run(f"[...document.querySelectorAll('#root button')].find((b) => b.textContent === '{view}').click()")
        page.until(f"location.hash.includes('view={view.lower()}')")
    tile = "[...document.querySelectorAll('#root *')].findLast((e) => e.textContent === 'conv.Conv2d.time_native')"
    page.until(f"{tile} !== undefined")
    page.run(f"{tile}.click()")
    page.until("document.querySelector('canvas') !== null")
    page.until("""(() => {
      const canvas = document.querySelector("canvas");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, index) => index % 4 === 3 && value > 0).length > 500;
    })()""")
    subjects = page.run("fetch('commits.json').then((r) => r.json()).then((c) => Object.values(c).sort())")
    assert subjects == sorted(fixture.SUBJECTS)
    assert page.run("fetch('regressions.json').then((r) => r.json()).then((c) => c.regressions.length)") == 0
    # A ratio of ours over the twin's that grows is bad news, as in everything asv measures.
    page.run("[...document.querySelectorAll('#root button')].find((b) => b.textContent === 'Overview').click()")
    change = "[...document.querySelectorAll('#root *')].find((e) => e.textContent === '+20.0%')"
    page.until(f"{change} !== undefined")
    red, green, _ = map(int, re.findall(r"\d+", page.run(f"getComputedStyle({change}).color"))[:3])
    assert red > green
    assert page.errors == []
    assert [url for url in page.requests if not url.startswith((address, "data:"))] == []


def test_without_javascript(page, address):
    """All cases are in the table; the form that would do nothing is not shown."""
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.open(address + "cases.html")
    document = page.call("DOM.getDocument", depth=0)["root"]["nodeId"]
    rows = page.call("DOM.querySelectorAll", nodeId=document, selector="#cases tbody tr")["nodeIds"]
    assert len(rows) == 301
    form = page.call("DOM.querySelector", nodeId=document, selector="#filters[hidden]")["nodeId"]
    assert form != 0
