"""The page in a real browser: Chromium without a window, where it is installed."""

import shutil

import pytest
from pictures import folder_of
from test_report import EVIL, KEPT, curve, gone, page_of, quantized, row, write_subset_of

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PEOPLE = ("ann", "bob", EVIL)
PAIRS = 15  # of each


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser that logs what goes wrong in a page."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("no Chromium with chromedriver here")
    options = selenium.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = selenium.Chrome(options, selenium.ChromeService(driver))
    yield running
    running.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page about everything with a gallery to filter, and the same without faces."""
    root = tmp_path_factory.mktemp("pages")
    dropped = [
        gone(who, number, 0.95 - number / 64, "near-duplicate" if number % 3 else "trimmed")
        for who in PEOPLE
        for number in range(1, PAIRS + 1)
    ]
    long = row("a_very_" * 8 + "long_name", 0, 0.59)
    write_subset_of(root / "results" / "subset.parquet", [*KEPT, long], dropped)
    quantized(root / "results" / "quantized")
    curve(root / "results" / "curve")
    folder_of(root / "images", {f"{who}/{n}.jpg": n for who in ("ann", "bob", "evil") for n in range(PAIRS + 1)})
    page_of(root / "results", faces=False)
    (root / "report.html").rename(root / "hidden.html")
    page_of(root / "results")
    return {"full": root / "report.html", "hidden": root / "hidden.html"}


@pytest.fixture
def opened(browser, pages):
    """Open a page at a width, light or dark; no page may leave a word in the browser's log."""

    def opening(name, width=1280, theme="light"):
        scheme = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(pages[name].as_uri())
        return browser

    yield opening
    assert browser.get_log("browser") == []


def shown(browser):
    """The identities of the cards of the gallery that one sees."""
    return browser.execute_script(
        "return [...document.querySelectorAll('[data-gallery] .card')].filter(c => c.offsetParent)"
        ".map(c => c.dataset.identity)"
    )


def text_of(browser, selector):
    return browser.execute_script(f"return document.querySelector({selector!r}).textContent")


def type_in(browser, name, value):
    browser.execute_script(
        "const field = document.querySelector('[data-gallery] form').elements[arguments[0]];"
        "field.value = arguments[1];"
        "field.dispatchEvent(new Event('input', {bubbles: true}))",
        name,
        value,
    )


def test_it_loads_from_disk_and_fetches_nothing(opened):
    page = opened("full")
    fetched = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in fetched if not name.startswith("data:")] == []
    broken = "return [...document.images].filter(image => image.complete && !image.naturalWidth).length"
    assert page.execute_script(broken) == 0
    assert page.execute_script("return document.querySelectorAll('.chart svg').length") >= 6


def test_the_gallery_shows_a_few_then_all(opened):
    page = opened("full")
    assert len(shown(page)) == 24
    total = page.execute_script("return document.querySelectorAll('[data-gallery] .card').length")
    assert text_of(page, "[data-gallery] output") == f"24 of {total} shown"
    page.execute_script("document.querySelector('.more').click()")
    assert len(shown(page)) == total
    assert page.execute_script("return document.querySelector('.more').hidden")


def test_the_gallery_filters_by_identity_and_reason(opened):
    page = opened("full")
    type_in(page, "identity", " BO")
    assert set(shown(page)) == {"bob"}
    of_bob = len(shown(page))
    type_in(page, "reason", "trimmed")
    assert 0 < len(shown(page)) < of_bob
    assert text_of(page, "[data-gallery] output") == f"{len(shown(page))} of {len(shown(page))} shown"
    type_in(page, "identity", "nobody")
    assert shown(page) == []
    assert text_of(page, "[data-gallery] output") == "0 of 0 shown"


def test_a_name_that_is_a_script_is_a_name(opened):
    page = opened("full")
    assert page.execute_script("return window.pwned") is None
    type_in(page, "identity", "<script>")
    assert set(shown(page)) == {EVIL}
    assert page.execute_script("return document.scripts.length") == 1


def test_a_script_that_got_in_would_not_run(opened, browser):
    page = opened("full")
    page.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.pwned = 1'; document.body.append(s)"
    )
    assert page.execute_script("return window.pwned") is None
    (entry,) = browser.get_log("browser")  # and here the log says so
    assert "Content Security Policy" in entry["message"]


def test_charts_say_their_values_to_the_keyboard(opened):
    page = opened("full")
    page.execute_script("document.querySelector('.chart svg').focus()")
    assert page.execute_script("return document.activeElement.tagName") == "svg"
    said = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.execute_script(
            "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0], bubbles: true}))",
            key,
        )
        said.append(text_of(page, ".chart .readout"))
    assert said[0] == said[2] == "1 face: 1 identity before"
    assert said[1] == "2 faces: 0 identities before"


def test_charts_say_their_values_to_the_pointer(opened):
    page = opened("full")
    x, y, value = page.execute_script(
        "const mark = [...document.querySelectorAll('.mark')].find(m => m.getBBox().height > 20);"
        "mark.scrollIntoView({block: 'center'}); const box = mark.getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2, mark.querySelector('title').textContent]"
    )
    page.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
    assert value in page.execute_script("return [...document.querySelectorAll('.readout')].map(p => p.textContent)")


def test_a_page_without_faces_has_no_picture(opened):
    page = opened("hidden")
    assert page.execute_script("return document.images.length") == 0
    assert "data:image" not in page.page_source
    assert len(shown(page)) == 24


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_it_fits_the_screen_in_both_themes(opened, width, theme):
    page = opened("full", width, theme)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground.removeprefix("rgb(").removesuffix(")").split(","))) < 200) == (theme == "dark")
    bar = page.execute_script("return getComputedStyle(document.querySelector('.mark path')).fill")
    assert bar.startswith("rgb(")


def test_without_scripts_everything_is_there(opened, browser):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page = opened("full")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert len(shown(page)) > 24
    assert page.execute_script("return document.querySelector('form').hidden")
