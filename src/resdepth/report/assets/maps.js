// Maps: canvases that show pictures, the swipe, the error maps' scale, and which area all of them show.

const SHARPER = 1.5; // pixels that are drawn so many times larger are drawn as squares
const WIDEST = 6; // maps of long and narrow areas are stretched beyond this ratio, or could not be seen

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

function draw(canvas, picture, view) {
  canvas.width = picture.width;
  canvas.height = picture.height;
  const colours = new ImageData(coloursOf(picture, view), picture.width, picture.height);
  canvas.getContext("2d").putImageData(colours, 0, 0);
  const map = canvas.closest(".map");
  map.style.setProperty("--aspect", aspectOf(view));
  sharpen(canvas, 1);
}

function sharpen(canvas, zoom) {
  const larger = (canvas.clientWidth * window.devicePixelRatio * zoom) / canvas.width;
  canvas.classList.toggle("magnified", larger > SHARPER);
}

function aspectOf(view) {
  const aspect = (view.width * view.pixel_m[0]) / (view.height * view.pixel_m[1]);
  return Math.min(Math.max(aspect, 1 / WIDEST), WIDEST);
}

// Draws one picture; answers whether it was drawn, not overtaken by a newer choice.
async function show(canvas, viewIndex, name, overtaken = () => false) {
  const picture = await pictureOf(viewIndex, name);
  if (overtaken()) return false;
  const view = content.views[viewIndex];
  draw(canvas, picture, view);
  canvas.setAttribute("aria-label", `${nameOf(name)}, ${view.name}`);
  return true;
}

function metres(length) {
  if (length >= 1000) return `${Number((length / 1000).toPrecision(3))}\u00a0km`;
  return `${Number(length.toPrecision(3))}\u00a0m`;
}

// 1, 2 or 5 times a power of ten, not above a length.
function roundLength(length) {
  const power = 10 ** Math.floor(Math.log10(length));
  return [5, 2, 1].find((digit) => digit * power <= length) * power;
}

function drawScaleBar(map, view, zoom = 1) {
  map.querySelector(".scalebar")?.remove();
  const width = (view.width * view.pixel_m[0]) / zoom;
  const length = roundLength(width / 4);
  const bar = element("span", metres(length));
  bar.className = "scalebar";
  bar.setAttribute("aria-hidden", "true");
  const line = element("i");
  // The bar's own padding is not part of the length.
  line.style.width = `${(map.clientWidth * length) / width}px`;
  bar.prepend(line);
  map.append(bar);
}

function describeArea() {
  const view = content.views[shown.view];
  const [height, width] = [view.height * view.pixel_m[1], view.width * view.pixel_m[0]];
  const text = `${view.name}: ${metres(width)} by ${metres(height)}, ${view.detail}`;
  for (const one of document.querySelectorAll(".area-stated")) one.textContent = text;
}

// All canvases that show one picture of the area each.
const drawPictures = newest(async (overtaken) => {
  for (const canvas of document.querySelectorAll("canvas.picture")) {
    const viewIndex = canvas.dataset.whole ? 0 : shown.view;
    if (!(await show(canvas, viewIndex, canvas.dataset.picture, overtaken))) return;
    drawScaleBar(canvas.closest(".map"), content.views[viewIndex]);
  }
});

// Two pictures of the same area, one on each side of a line.

function setUpSwipe() {
  const map = byId("swipe-map");
  if (!map) return;
  const [left, right, range] = ["swipe-left", "swipe-right", "swipe-range"].map(byId);
  const drawSwipe = newest(async (overtaken) => {
    for (const [side, select] of [["left", left], ["right", right]]) {
      if (!(await show(byId(`swipe-canvas-${side}`), shown.view, select.value, overtaken))) return;
      map.querySelector(`.tag.${side}`).textContent = nameOf(select.value);
    }
    zoomed();
  });
  const zoomed = setUpZoom(map, range);
  const move = () => {
    map.style.setProperty("--at", `${range.value}%`);
    const stated = `${nameOf(left.value)} on the left ${Math.round(range.value)} percent`;
    range.setAttribute("aria-valuetext", `${stated}, ${nameOf(right.value)} on the right`);
  };
  range.addEventListener("input", move);
  for (const select of [left, right]) select.addEventListener("change", () => { move(); drawSwipe(); });
  move();
  watch(drawSwipe);
}

// Zooming into the swipe: both pictures are enlarged and moved together, the line stays where it is. Answers a function
// that puts the zoom on pictures that were drawn anew.

const MOST_ZOOM = 24, ZOOM_STEP = 1.5, PAN_STEP = 0.1;

function setUpZoom(map, range) {
  const canvases = map.querySelectorAll("canvas");
  const buttons = map.querySelectorAll(".zooming button");
  let [zoom, x, y, view] = [1, 0, 0, shown.view]; // x, y: of the pictures' upper left corner, in sizes of the map
  const within = (place) => Math.min(0, Math.max(1 - zoom, place));

  const apply = () => {
    [x, y] = [within(x), within(y)];
    for (const [name, value] of [["--zoom", zoom], ["--x", `${100 * x}%`], ["--y", `${100 * y}%`]]) {
      map.style.setProperty(name, value);
    }
    map.classList.toggle("zoomed", zoom > 1);
    for (const canvas of canvases) sharpen(canvas, zoom);
    for (const button of buttons) button.disabled = button.dataset.zoom === "in" ? zoom >= MOST_ZOOM : zoom <= 1;
    drawScaleBar(map, content.views[shown.view], zoom);
  };
  // Zooms by a factor, so that what is seen at a place of the map (shares of its size) stays there.
  const zoomBy = (factor, [across, down] = [0.5, 0.5]) => {
    const before = zoom;
    zoom = Math.min(MOST_ZOOM, Math.max(1, zoom * factor));
    [x, y] = [across - ((across - x) * zoom) / before, down - ((down - y) * zoom) / before];
    apply();
    byId("swipe-stated").textContent = zoom > 1 ? `Zoomed in ${zoom.toFixed(1)} times` : "All of the area is shown";
    return zoom !== before;
  };
  const moveBy = (across, down) => { [x, y] = [x + across, y + down]; apply(); };
  const placeOf = ({ clientX, clientY }) => {
    const box = map.getBoundingClientRect();
    return [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
  };
  const actions = { in: () => zoomBy(ZOOM_STEP), out: () => zoomBy(1 / ZOOM_STEP), all: () => zoomBy(1 / MOST_ZOOM) };

  for (const button of buttons) {
    button.addEventListener("click", () => {
      actions[button.dataset.zoom]();
      if (button.disabled) range.focus(); // what is disabled loses the focus
    });
  }
  range.addEventListener("keydown", (event) => {
    const [across, down] = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
    const action = { "+": actions.in, "=": actions.in, "-": actions.out, 0: actions.all }[event.key];
    if (action && !event.ctrlKey && !event.metaKey) action();
    else if (event.shiftKey && (across || down)) moveBy(PAN_STEP * across, PAN_STEP * down);
    else return;
    event.preventDefault();
  });
  // The wheel alone scrolls the page, unless the map is what somebody works with.
  map.addEventListener("wheel", (event) => {
    const asked = event.ctrlKey || event.metaKey;
    if (!asked && !map.contains(document.activeElement)) return;
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    if (zoomBy(Math.exp(-0.004 * lines * event.deltaY), placeOf(event)) || asked) event.preventDefault();
  }, { passive: false });
  setUpDragging(map, moveBy);
  setUpPinching(map, placeOf, zoomBy, moveBy);
  return () => {
    if (view !== shown.view) [zoom, x, y, view] = [1, 0, 0, shown.view];
    apply();
  };
}

// Zoomed in, the pictures follow the pointer.
function setUpDragging(map, moveBy) {
  map.addEventListener("pointerdown", (event) => {
    if (!map.classList.contains("zoomed") || event.target.closest("input, button") || !event.isPrimary) return;
    map.setPointerCapture(event.pointerId);
    map.classList.add("dragged");
  });
  map.addEventListener("pointermove", (event) => {
    if (!map.classList.contains("dragged") || !event.isPrimary || map.classList.contains("pinched")) return;
    moveBy(event.movementX / map.clientWidth, event.movementY / map.clientHeight);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    map.addEventListener(end, (event) => { if (event.isPrimary) map.classList.remove("dragged"); });
  }
}

// Two fingers zoom, and move the pictures with them.
function setUpPinching(map, placeOf, zoomBy, moveBy) {
  let before;
  const look = ([one, other]) => {
    const [a, b] = [placeOf(one), placeOf(other)];
    const apart = Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    return { apart: Math.max(apart, 1), middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2] };
  };
  map.addEventListener("touchstart", (event) => {
    if (event.touches.length !== 2) return;
    event.preventDefault();
    map.classList.add("pinched");
    before = look(event.touches);
  }, { passive: false });
  map.addEventListener("touchmove", (event) => {
    if (event.touches.length !== 2 || !before) return;
    event.preventDefault();
    const now = look(event.touches);
    moveBy(now.middle[0] - before.middle[0], now.middle[1] - before.middle[1]);
    zoomBy(now.apart / before.apart, now.middle);
    before = now;
  }, { passive: false });
  for (const end of ["touchend", "touchcancel"]) {
    map.addEventListener(end, (event) => {
      if (event.touches.length < 2) { before = undefined; map.classList.remove("pinched"); }
    });
  }
}

// The colour scale that all maps of differences share.

function setUpErrors() {
  const select = byId("errors-limit");
  if (!select) return;
  const colours = BLUE_TO_RED.map((colour) => `rgb(${colour})`);
  document.querySelector(".scale > i").style.background = `linear-gradient(90deg, ${colours})`;
  const choose = () => {
    shown.limit = Number(select.value);
    const ticks = [-1, -0.5, 0, 0.5, 1].map((share) => {
      const value = share * shown.limit;
      const text = Number(Math.abs(value).toPrecision(3));
      return element("span", value < 0 ? `−${text}` : value > 0 ? `+${text}` : "0 m");
    });
    byId("errors-ticks").replaceChildren(...ticks);
  };
  select.addEventListener("change", () => { choose(); changed(); });
  choose();
}

// Which area is shown: a selection in the bar, buttons, and rectangles on the overview say the same.

function drawRectangles() {
  const map = byId("places-map");
  const [, , height, width] = content.views[0].window;
  content.views.forEach(({ name, window: [row, col, high, wide] }, index) => {
    if (index === 0) return;
    const rectangle = element("span");
    rectangle.className = "rectangle";
    rectangle.dataset.view = index;
    rectangle.title = name;
    rectangle.setAttribute("aria-hidden", "true"); // the buttons beside the map are for the keyboard
    const box = { left: percent(col, width), top: percent(row, height), width: percent(wide, width), height: percent(high, height) };
    Object.assign(rectangle.style, box);
    rectangle.append(element("b", index));
    rectangle.addEventListener("click", () => chooseView(index));
    map.append(rectangle);
  });
}

async function chooseView(index) {
  shown.view = index;
  byId("area").value = index;
  for (const button of document.querySelectorAll(".places button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.view) === index));
  }
  for (const rectangle of document.querySelectorAll(".rectangle")) {
    rectangle.classList.toggle("chosen", Number(rectangle.dataset.view) === index);
  }
  describeArea();
  byId("places-stated").textContent = `All maps show: ${content.views[index].name}`;
  firstCut();
  await Promise.all([changed(), drawProfile()]);
}

function setUpPlaces() {
  describeArea();
  watch(drawPictures);
  if (content.views.length < 2) return;
  drawRectangles();
  byId("area").addEventListener("change", (event) => chooseView(Number(event.target.value)));
  for (const button of document.querySelectorAll(".places button")) {
    button.addEventListener("click", () => chooseView(Number(button.dataset.view)));
  }
}
