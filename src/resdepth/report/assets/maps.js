// Canvases that show pictures, and what all maps share.

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
