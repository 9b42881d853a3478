// A cut through all surfaces between two points of a map; positions are columns and rows of the view.

const FAR_STEP = 10;
const section = { points: [], cross: null, distances: [], places: [] };

function viewShown() {
  return content.views[shown.view];
}

function percent(value, all) {
  return `${(100 * value) / all}%`;
}

function placeLine(line, [col1, row1], [col2, row2], { width, height }) {
  const ends = { x1: percent(col1, width), y1: percent(row1, height), x2: percent(col2, width), y2: percent(row2, height) };
  for (const [name, value] of Object.entries(ends)) line.setAttribute(name, value);
}

function placeCircle(id, point, { width, height }) {
  const circle = byId(id);
  circle.style.visibility = point ? "visible" : "hidden";
  if (!point) return;
  circle.setAttribute("cx", percent(point[0], width));
  circle.setAttribute("cy", percent(point[1], height));
}

function drawCut() {
  const view = viewShown();
  const [start, end] = section.points;
  placeCircle("profile-start", start, view);
  placeCircle("profile-end", end, view);
  for (const id of ["profile-line", "profile-halo"]) {
    byId(id).style.visibility = end ? "visible" : "hidden";
    if (end) placeLine(byId(id), start, end, view);
  }
  const [col, row] = section.cross;
  document.querySelectorAll("#profile-cross line").forEach((line, i) => {
    if (i % 2) placeLine(line, [0, row], [view.width, row], view);
    else placeLine(line, [col, 0], [col, view.height], view);
  });
}

// What the map and the surfaces say at the cross-hair.
async function readOut() {
  const view = viewShown();
  const [col, row] = section.cross.map(Math.floor);
  const [a, b, c, d, e, f] = view.transform;
  const digits = Math.abs(a) < 0.01 ? 6 : 1;
  const position = [a * (col + 0.5) + b * (row + 0.5) + c, d * (col + 0.5) + e * (row + 0.5) + f];
  const heights = await Promise.all(surfaces().map(async ({ name, index }) => {
    const picture = await layerOf(shown.view, index);
    return `${name} ${inMetres(picture.values[row * picture.width + col])}`;
  }));
  byId("profile-readout").textContent = `At ${position.map((one) => one.toFixed(digits)).join(", ")}: ${heights.join("; ")}`;
}

function inMetres(height) {
  return height === height ? `${height.toFixed(2)} m` : "void";
}

// The pixels along the cut, each as it is, and how far they lie from its start.
function followCut() {
  const [[col1, row1], [col2, row2]] = section.points;
  const { width, height, pixel_m: [across, down] } = viewShown();
  const steps = Math.max(Math.ceil(2 * Math.hypot(col2 - col1, row2 - row1)), 1);
  const length = Math.hypot((col2 - col1) * across, (row2 - row1) * down);
  const shares = Array.from({ length: steps + 1 }, (_, i) => i / steps);
  section.places = shares.map((share) => [col1 + share * (col2 - col1), row1 + share * (row2 - row1)]);
  section.distances = shares.map((share) => share * length);
  return section.places.map(([col, row]) => Math.min(Math.floor(row), height - 1) * width + Math.min(Math.floor(col), width - 1));
}

const drawProfile = newest(async (overtaken) => {
  if (section.points.length < 2) return;
  const pixels = followCut();
  const lines = await Promise.all(surfaces().map(async ({ name, index }) => {
    const { values } = await layerOf(shown.view, index);
    const y = pixels.map((pixel) => (values[pixel] === values[pixel] ? values[pixel] : null));
    return { name, index, x: section.distances, y };
  }));
  const Plotly = await plotly();
  if (overtaken()) return;
  const traces = lines.map(({ name, x, y }) => ({
    name: plain(name), x, y, mode: "lines", line: { ...styleOf(name), shape: "linear" }, hovertemplate: "%{y:.2f} m",
  }));
  await Plotly.react("profile-plot", traces, plotLayout({
    height: 360 + legendHeight(byId("profile-plot"), lines.map(({ name }) => name)), xaxis: axis("distance from the first point [m]", { hoverformat: ".1f", zeroline: false }),
    yaxis: axis("height [m]", { zeroline: false }),
  }), PLOT_CONFIG);
  byId("profile-stated").textContent = aboutCut(lines);
  byId("profile-plot").setAttribute("aria-label", `Heights along the profile. ${aboutCut(lines)}`);
});

// The length of a cut, and how far the surfaces are from the reference along it.
function aboutCut(lines) {
  const length = `The profile is ${metres(section.distances.at(-1))} long.`;
  const reference = lines.find(({ index }) => index === content.reference);
  const compared = lines.filter((line) => reference && line !== reference).flatMap(({ name, y }) => {
    const sizes = y.flatMap((height, i) => (height === null || reference.y[i] === null ? [] : [Math.abs(height - reference.y[i])]));
    const mean = sizes.reduce((sum, size) => sum + size, 0) / sizes.length;
    return sizes.length ? [`${name} ${mean.toFixed(2)} m`] : [];
  });
  if (!compared.length) return length;
  return `${length} Mean distance from ${withinASentence(reference.name)} along it: ${compared.join(", ")}.`;
}

function setPoint(point) {
  section.points = section.points.length === 1 ? [section.points[0], point] : [point];
  drawCut();
  drawProfile();
}

function moveCross(col, row) {
  const { width, height } = viewShown();
  section.cross = [Math.min(Math.max(col, 0.5), width - 0.5), Math.min(Math.max(row, 0.5), height - 0.5)];
  drawCut();
  readOut();
}

// The middle of the pixel under the pointer.
function pixelAt(event, map) {
  const box = map.getBoundingClientRect();
  const { width, height } = viewShown();
  const col = ((event.clientX - box.left) / box.width) * width;
  const row = ((event.clientY - box.top) / box.height) * height;
  return [Math.floor(col) + 0.5, Math.floor(row) + 0.5];
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function onKey(event) {
  const step = event.shiftKey ? FAR_STEP : 1;
  if (event.key in ARROWS) moveCross(...section.cross.map((one, i) => one + step * ARROWS[event.key][i]));
  else if (event.key === "Enter" || event.key === " ") setPoint(section.cross);
  else if (event.key === "Escape") { section.points = []; drawCut(); }
  else return;
  event.preventDefault();
}

// A cut from side to side shows from the beginning what there is to be seen.
function firstCut() {
  const { width, height } = viewShown();
  const row = Math.floor(height / 2) + 0.5;
  section.cross = [Math.floor(width / 2) + 0.5, row];
  section.points = [[Math.floor(width * 0.15) + 0.5, row], [Math.floor(width * 0.85) + 0.5, row]];
  byId("profile-readout").textContent = "";
  drawCut();
}

function setUpProfile() {
  const map = byId("profile-map");
  const canvas = map.querySelector("canvas");
  const drawMap = newest(async (overtaken) => {
    if (await show(canvas, shown.view, byId("profile-picture").value, overtaken)) drawScaleBar(map, viewShown());
  });
  byId("profile-picture").addEventListener("change", drawMap);
  map.addEventListener("pointermove", (event) => moveCross(...pixelAt(event, map)));
  map.addEventListener("click", (event) => { moveCross(...pixelAt(event, map)); setPoint(section.cross); });
  map.addEventListener("keydown", onKey);
  firstCut();
  watch(drawMap);
  return drawProfile;
}

// Where the pointer is on the chart is marked on the map.
function linkProfile() {
  const plot = byId("profile-plot");
  plot.on("plotly_hover", ({ points: [{ pointIndex }] }) => placeCircle("profile-here", section.places[pointIndex], viewShown()));
  plot.on("plotly_unhover", () => placeCircle("profile-here", null, viewShown()));
}
