"""The page as people use it: a real Chromium opens it from a file, without a network."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, ViewportSize, sync_playwright

from pages import grid_of, made_content, made_surfaces, reader, written
from resdepth.report.page import PageContent

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
    "--disable-quic", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip
WINDOW: ViewportSize = {"width": 1280, "height": 800}
READY = "html[data-ready]"
DRAWN = "#relief-plot[data-drawn]"
NASTY = "<img src=x onerror=\"document.title='hacked'\"><b>bold</b>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None and "CI" not in os.environ:
        pytest.skip("there is no chromium: `make browser` says what to do")
    assert CHROMIUM is not None, "continuous integration looks at pages with chromium, and there is none"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield started
        started.close()


@dataclass
class Opened:
    """A page, and everything that it complained of or asked for."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def opened(
    browser: Browser, path: Path, *, ready: str = READY, script: str = "", **options: object
) -> Opened:
    page = browser.new_page(**({"viewport": WINDOW, "reduced_motion": "reduce"} | options))
    found = Opened(page, path.as_uri())
    page.on("console", lambda said: said.type == "error" and found.complaints.append(said.text))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on("request", lambda request: found.requests.append(request.url))
    page.on("requestfailed", lambda request: found.complaints.append(request.url))
    page.on("dialog", lambda dialog: found.complaints.append(dialog.message))
    if script:
        page.add_init_script(script)
    page.goto(found.url)
    page.wait_for_selector(ready, state="attached", timeout=30_000)
    return found


@pytest.fixture(scope="module")
def shared(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    found = opened(browser, written(tmp_path_factory.mktemp("page"), made_content()))
    yield found
    found.page.close()


@pytest.fixture
def page(shared: Opened) -> Page:
    """The page of everything, with the whole area and a wide window."""
    if shared.page.viewport_size != WINDOW:
        shared.page.set_viewport_size(WINDOW)
    if shared.page.locator("#area").input_value() != "0":
        shared.page.select_option("#area", "0")
    settled(shared.page)
    return shared.page


SETTLED = """() => new Promise((done) => {
  const look = () => document.getElementById("main").ariaBusy === "true"
    ? setTimeout(look, 10) : requestAnimationFrame(() => requestAnimationFrame(done));
  setTimeout(look, 10);
})"""


def settled(page: Page) -> None:
    """Wait until nothing is being drawn any more."""
    page.evaluate(SETTLED)


def pixels(of: Locator) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(of.screenshot())).convert("RGB")).astype(int)


def canvas(page: Page, selector: str) -> str:
    return str(page.evaluate("one => document.querySelector(one).toDataURL()", selector))


def choose(page: Page, selector: str, value: str) -> None:
    page.select_option(selector, value)
    settled(page)


def relief(page: Page) -> Locator:
    page.locator("#relief").scroll_into_view_if_needed()
    page.wait_for_selector(DRAWN, timeout=30_000)
    settled(page)
    return page.locator("#relief-plot")


def test_nothing_fails_and_nothing_is_asked_for(shared: Opened, page: Page) -> None:
    relief(page)
    assert shared.complaints == []
    assert [url for url in shared.requests if not url.startswith(("data:", "blob:"))] == [shared.url]
    assert page.locator("#trouble").is_hidden()


def test_the_swipe_moves_what_is_seen(page: Page) -> None:
    line = page.locator("#swipe-range")
    line.evaluate("(one) => { one.value = 90; one.dispatchEvent(new Event('input')); }")
    before = pixels(page.locator("#swipe-map"))
    line.focus()
    for _ in range(20):
        page.keyboard.press("PageDown")
    after = pixels(page.locator("#swipe-map"))
    assert float(line.input_value()) < 20
    width = before.shape[1]
    middle = slice(int(0.3 * width), int(0.8 * width))
    assert np.abs(before[:, middle] - after[:, middle]).mean() > 5
    box = page.locator("#swipe-map").bounding_box()
    page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + 0.3 * box["height"])
    assert abs(float(line.input_value()) - 70) < 3
    choose(page, "#swipe-right", "layer-3")
    assert page.locator(".tag.right").text_content() == "Ortho-image 1"
    choose(page, "#swipe-right", "layer-1")


ZOOM = """() => { const style = getComputedStyle(document.getElementById("swipe-map"));
  return ["--zoom", "--x", "--y"].map(name => parseFloat(style.getPropertyValue(name))); }"""


def seen(page: Page) -> tuple[float, float, float]:
    """How far the swipe is zoomed, and where, in percent of the map."""
    zoom, x, y = page.evaluate(ZOOM)
    return zoom, x, y


def test_the_swipe_zooms_by_buttons_and_keys(page: Page) -> None:
    before = pixels(page.locator("#swipe-map"))
    bar = page.locator("#swipe-map .scalebar").text_content()
    assert page.locator("[data-zoom=out]").is_disabled()
    for _ in range(3):
        page.click("[data-zoom=in]")
    assert seen(page)[0] == pytest.approx(1.5**3)
    assert np.abs(pixels(page.locator("#swipe-map")) - before).mean() > 5
    assert page.locator("#swipe-map .scalebar").text_content() != bar
    page.locator("#swipe-range").focus()
    at = page.locator("#swipe-range").input_value()
    left = seen(page)[1]
    page.keyboard.press("Shift+ArrowRight")
    assert seen(page)[1] == pytest.approx(left - 10)
    for _ in range(60):
        page.keyboard.press("Shift+ArrowRight")
    assert seen(page)[1] == pytest.approx(100 * (1 - 1.5**3)), "no further than the pictures reach"
    assert page.locator("#swipe-range").input_value() == at, "the line stays"
    page.keyboard.press("+")
    assert seen(page)[0] == pytest.approx(1.5**4)
    page.keyboard.press("0")
    assert seen(page) == (1, 0, 0)
    # Not equal: the slider has the focus now, and its outline lies on the map.
    assert np.abs(pixels(page.locator("#swipe-map")) - before).mean() < 2.5
    page.keyboard.press("+")
    page.select_option("#area", "1")
    settled(page)
    assert seen(page) == (1, 0, 0), "another area is shown as a whole"


def test_the_swipe_zooms_where_the_wheel_points_and_follows_the_pointer(page: Page) -> None:
    page.locator("#swipe-map").scroll_into_view_if_needed()
    box = page.locator("#swipe-map").bounding_box()
    assert box is not None
    place = (box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(*place)
    top = page.evaluate("window.scrollY")
    page.mouse.wheel(0, 40)
    page.wait_for_timeout(200)
    assert seen(page)[0] == 1
    assert page.evaluate("window.scrollY") == top + 40, "the wheel alone scrolls the page"
    page.mouse.wheel(0, -40)
    page.wait_for_timeout(200)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    page.wait_for_timeout(100)
    zoom, x, y = seen(page)
    assert zoom == pytest.approx(np.exp(0.8), rel=0.01)
    assert x == pytest.approx(100 * 0.75 * (1 - zoom), abs=0.6), "what the pointer shows stays below it"
    assert y == pytest.approx(100 * 0.25 * (1 - zoom), abs=0.6)
    at = page.locator("#swipe-range").input_value()
    page.mouse.down()
    page.mouse.move(place[0] + 50, place[1] + 10, steps=4)
    page.mouse.up()
    assert seen(page)[1] - x == pytest.approx(100 * 50 / box["width"], abs=0.6)
    assert page.locator("#swipe-range").input_value() == at
    middle = (box["x"] + float(at) / 100 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 60, middle[1], steps=4)
    page.mouse.up()
    assert float(page.locator("#swipe-range").input_value()) < float(at) - 3, "the line can still be dragged"
    page.locator("#swipe-range").focus()
    page.keyboard.press("0")


PINCH = """(apart) => {
  const map = document.getElementById("swipe-map"), box = map.getBoundingClientRect();
  const touch = (id, across) => new Touch({ identifier: id, target: map,
    clientX: box.left + box.width / 2 + across, clientY: box.top + box.height / 2 });
  const send = (kind, touches) => map.dispatchEvent(new TouchEvent(kind,
    { touches, targetTouches: touches, changedTouches: touches, bubbles: true, cancelable: true }));
  send("touchstart", [touch(1, -50), touch(2, 50)]);
  const refused = !send("touchmove", [touch(1, -50 * apart), touch(2, 50 * apart)]);
  send("touchend", []);
  return refused;
}"""


def test_two_fingers_zoom_the_swipe(page: Page) -> None:
    assert page.evaluate(PINCH, 2), "the browser does not zoom the page as well"
    assert seen(page) == pytest.approx((2, -50, -50))
    page.evaluate(PINCH, 0.1)
    assert seen(page) == (1, 0, 0)


def test_a_narrow_screen_shows_the_mae_of_all_surfaces(page: Page) -> None:
    assert page.locator(".by-class small:visible").count() > 0
    page.set_viewport_size({"width": 400, "height": 800})
    settled(page)
    assert page.locator(".by-class small:visible").count() == 0, "intervals give way"
    first = page.locator(".by-class tbody:visible tr").first.locator("td")
    right = [box["x"] + box["width"] for cell in first.all()[:2] if (box := cell.bounding_box())]
    assert len(right) == 2
    assert max(right) < 400 - 20


def test_classes_show_one_metric_at_a_time(page: Page) -> None:
    rows = page.locator(".by-class tbody:visible")
    assert rows.count() == 1
    mae = rows.inner_text()
    page.get_by_text("RMSE", exact=True).first.click()
    assert rows.count() == 1
    assert rows.get_attribute("aria-label") == "RMSE"
    assert rows.inner_text() != mae
    page.locator(".by-class label").first.click()


def test_all_error_maps_follow_one_scale(page: Page) -> None:
    maps = [f'#errors canvas[data-picture="difference-{index}"]' for index in (0, 1)]
    before = [canvas(page, one) for one in maps]
    choose(page, "#errors-limit", "0.25")
    after = [canvas(page, one) for one in maps]
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert " ".join(page.locator("#errors-ticks").inner_text().split()) == "−0.25 −0.125 0 m +0.125 +0.25"
    choose(page, "#errors-limit", "2.0")


def test_classes_and_figures_change_the_charts(page: Page) -> None:
    def drawn(chart: str) -> str:
        return str(page.locator(f"#{chart} .plot-container").first.inner_html())

    before = {chart: drawn(chart) for chart in ("histogram", "curve", "bars")}
    choose(page, "#distribution-class", "building")
    choose(page, "#classes-figure", "rmse")
    assert all(drawn(chart) != html for chart, html in before.items())
    assert "RMSE [m]" in page.locator("#bars").inner_text()
    assert "root mean square error" in page.locator("#classes-stated").inner_text()
    assert page.locator("#histogram .scatterlayer .trace").count() == 2
    assert page.locator("#bars .errorbar").count() == 6
    assert "buildings" in page.locator("#histogram").get_attribute("aria-label")
    choose(page, "#classes-figure", "bias")
    assert page.locator("#bars .errorbar path").evaluate_all(
        "all => all.every(one => one.getBBox().width < 1)"
    )


def test_a_profile_appears_between_two_clicks(page: Page) -> None:
    area = page.locator("#profile-map")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    before = page.locator("#profile-stated").inner_text()
    area.click(position={"x": 60.5 / 240 * box["width"], "y": 100.5 / 200 * box["height"]})
    area.click(position={"x": 180.5 / 240 * box["width"], "y": 100.5 / 200 * box["height"]})
    settled(page)
    assert page.locator("#profile-stated").inner_text() != before
    # Half of 240 pixels of 0.5 m.
    assert "The profile is 60\N{NO-BREAK SPACE}m long" in page.locator("#profile-stated").inner_text()
    assert page.locator("#profile-plot .scatterlayer .trace").count() == 3
    reference, initial = (made_surfaces()[name][100, 60:181] for name in ("Reference DSM", "Initial DSM"))
    stated = page.locator("#profile-stated").inner_text().partition("Initial DSM ")[2]
    assert float(stated.split()[0]) == pytest.approx(np.abs(initial - reference).mean(), abs=0.011)
    first = page.evaluate("document.getElementById('profile-plot').data[2].y[0]")
    assert first == pytest.approx(reference[0], abs=0.006)


def test_a_profile_can_be_made_with_the_keyboard_alone(page: Page) -> None:
    choose(page, "#area", "1")
    choose(page, "#area", "0")  # the cross-hair is in the middle
    before = page.evaluate("JSON.stringify(document.getElementById('profile-plot').data[0].y)")
    page.locator("#profile-map").focus()
    page.keyboard.press("Escape")
    for _ in range(5):
        page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Enter")
    for _ in range(8):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    settled(page)
    assert page.evaluate("JSON.stringify(document.getElementById('profile-plot').data[0].y)") != before
    assert "The profile is 40\N{NO-BREAK SPACE}m long" in page.locator("#profile-stated").inner_text()
    height = made_surfaces()["Reference DSM"][51, 200]
    assert f"Reference DSM {height:.2f} m" in page.locator("#profile-readout").inner_text()


def test_the_3d_view_draws_and_turns(page: Page) -> None:
    page.set_viewport_size({"width": 800, "height": 600})
    plot = relief(page)
    before = pixels(plot)
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 200
    page.click("[data-turn=left]")
    settled(page)
    turned = pixels(plot)
    assert (np.abs(turned - before).max(axis=2) > 20).mean() > 0.05
    choose(page, "#relief-surface", "layer-0")
    assert (np.abs(pixels(plot) - turned).max(axis=2) > 10).mean() > 0.02
    for colours in ("difference", "layer-3"):
        before = pixels(plot)
        choose(page, "#relief-colour", colours)
        assert (np.abs(pixels(plot) - before).max(axis=2) > 10).mean() > 0.05, colours
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 220, steps=4)
    page.mouse.up()
    settled(page)
    assert (np.abs(pixels(plot) - before).max(axis=2) > 20).mean() > 0.05


def test_a_tile_is_shown_everywhere(page: Page) -> None:
    plot = relief(page)
    canvases = (
        "#swipe-canvas-left",
        "#errors canvas",
        "#profile-map canvas",
        "#places .figures canvas",
        "#images canvas",
    )
    before, whole, mesh = (
        {one: canvas(page, one) for one in canvases},
        canvas(page, "#places-map canvas"),
        pixels(plot),
    )
    page.click(".places button >> nth=1")
    settled(page)
    assert all(canvas(page, one) != picture for one, picture in before.items())
    assert canvas(page, "#places-map canvas") == whole
    assert np.abs(pixels(plot) - mesh).mean() > 1
    assert page.locator("#area").input_value() == "1"
    assert page.locator(".places button[aria-pressed=true]").inner_text().startswith("1")
    assert page.locator("#swipe .area-stated").inner_text().startswith("Largest errors: 40")
    page.locator(".rectangle").nth(1).click()
    settled(page)
    assert page.locator("#area").input_value() == "2"


FOCUSED = """() => {
  const one = document.activeElement, style = getComputedStyle(one);
  const { turn, view, zoom } = one.dataset;
  const name = one.id || turn || view || zoom || one.getAttribute("href") || one.tagName;
  return [name, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
}"""


def test_the_tab_key_reaches_everything_visibly(page: Page) -> None:
    relief(page)
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.mouse.click(3, 3)
    reached: dict[str, bool] = {}
    for _ in range(80):
        page.keyboard.press("Tab")
        name, visible = page.evaluate(FOCUSED)
        if name in reached:
            break
        reached[name] = visible
    wanted = page.locator(
        "main select, main button:not(:disabled), main input:not([type=radio]), main input:checked, nav a, "
        "nav select, #profile-map"
    ).evaluate_all(
        "all => all.map(one => one.id || one.dataset.turn || one.dataset.view || one.dataset.zoom "
        "|| one.getAttribute('href'))"
    )
    assert [name for name in wanted if name not in reached] == []
    assert len(wanted) > 25
    assert [name for name, visible in reached.items() if not visible and name != "BODY"] == []


def test_every_control_and_picture_has_a_name(page: Page) -> None:
    unnamed = page.locator("select, input, button, .map canvas, [role=img]").evaluate_all(
        """all => all.filter(one => !(one.labels?.length || one.ariaLabel || one.textContent.trim()
             || one.ariaHidden === "true")).map(one => one.outerHTML.slice(0, 99))"""
    )
    assert unnamed == []


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    relief(page)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    beyond = page.locator("main > section").evaluate_all(
        "(all, width) => all.filter(one => one.getBoundingClientRect().right > width).map(one => one.id)",
        width,
    )
    assert beyond == []
    charts = page.locator(".plot:visible").evaluate_all("all => all.map(one => one.clientWidth)")
    assert min(charts) > 0.85 * min(width, 400) - 32


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_colours_are_those_that_the_reader_prefers(page: Page, scheme: str, *, dark: bool) -> None:
    page.emulate_media(color_scheme=scheme)
    settled(page)
    paper = pixels(page.locator("header"))[2, 2]
    assert paper.mean() < 40 if dark else paper.mean() > 215
    ink = page.locator("#histogram .xtitle").evaluate("one => getComputedStyle(one).fill")
    assert np.mean([float(part) for part in ink.strip("rgb()").split(",")]) > 200 if dark else "rgb(22" in ink


# --- other pages


def without_webgl() -> str:
    return """const real = HTMLCanvasElement.prototype.getContext;
      HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
        return kind.startsWith("webgl") ? null : real.call(this, kind, ...more);
      };"""


def test_without_webgl_the_page_says_so_in_words(browser: Browser, tmp_path: Path) -> None:
    found = opened(browser, written(tmp_path, made_content(outcome=None)), script=without_webgl())
    found.page.locator("#relief").scroll_into_view_if_needed()
    found.page.wait_for_selector("#relief-stated:visible")
    assert "WebGL is switched off or missing" in found.page.locator("#relief-stated").inner_text()
    assert found.complaints == []
    found.page.close()


def test_names_are_shown_as_they_are(browser: Browser, tmp_path: Path) -> None:
    content = made_content()
    surfaces = {NASTY: content.surfaces["Initial DSM"], "Reference DSM": content.surfaces["Reference DSM"]}
    evaluated = content.outcome
    assert evaluated is not None
    changed = made_content(title=NASTY, surfaces=surfaces, images={}, masks={}, facts={NASTY: NASTY})
    found = opened(browser, written(tmp_path, changed))
    assert found.page.locator("h1").inner_text() == NASTY
    assert found.page.locator("#profile-plot .legendtext").first.text_content() == NASTY
    assert found.page.title() == NASTY
    assert found.page.locator("main img, main b:text('bold')").count() == 0
    assert found.complaints == []
    found.page.close()


def odd_content(kind: str) -> PageContent:
    shape = (1, 400) if kind == "line" else (120, 130)
    grid, rng = grid_of(*shape), np.random.default_rng(0)
    initial = rng.normal(0, 1, shape).astype(np.float32)
    reference = np.full(shape, np.nan if kind == "void" else 3, dtype=np.float32)
    surfaces = {"Initial DSM": reader(initial, grid), "Reference DSM": reader(reference, grid)}
    return made_content(grid=grid, surfaces=surfaces, images={}, masks={}, outcome=None)


@pytest.mark.parametrize("kind", ["void", "line"])
def test_odd_surfaces_do_not_break_the_page(kind: str, browser: Browser, tmp_path: Path) -> None:
    found = opened(browser, written(tmp_path, odd_content(kind)))
    choose(found.page, "#relief-surface", "layer-1")
    found.page.locator("#relief").scroll_into_view_if_needed()
    found.page.wait_for_selector("#relief-stated:visible" if kind == "void" else DRAWN, timeout=30_000)
    assert found.complaints == []
    assert found.page.locator("#trouble").is_hidden()
    found.page.close()


def test_figures_alone_are_drawn(browser: Browser, tmp_path: Path) -> None:
    page = PageContent("Compared", "", outcome=made_content().outcome)
    found = opened(browser, written(tmp_path, page))
    assert found.page.locator("#bars .bars .point").count() == 6
    colours = found.page.evaluate("document.getElementById('bars').data.map(one => one.marker.color)")
    assert len(set(colours)) == 2
    assert found.complaints == []
    found.page.close()


def test_without_scripts_there_is_a_note_and_the_tables(browser: Browser, tmp_path: Path) -> None:
    found = opened(browser, written(tmp_path, made_content()), ready="noscript", java_script_enabled=False)
    assert found.page.locator("noscript .notice").is_visible()
    assert found.page.get_by_role("cell", name="0.48", exact=True).is_visible()
    found.page.close()
