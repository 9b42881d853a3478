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
  const larger = (canvas.clientWidth * window.devicePixelRatio) / picture.width;
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

function drawScaleBar(map, view) {
  map.querySelector(".scalebar")?.remove();
  const width = view.width * view.pixel_m[0];
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
    drawScaleBar(map, content.views[shown.view]);
  });
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
