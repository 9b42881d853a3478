// A surface in three dimensions.

const MESH = 200; // points on a side: what turns fluently without a graphics card
const FIRST_EYE = { x: -0.95, y: -1.35, z: 1.15 };
const WIDE = 1.5; // plots that are narrower than this, by height, are looked at from farther away
const TURN = Math.PI / 12;
const HEIGHT_COLOURS = "Cividis";
let eye = null;

function firstEye() {
  const { clientWidth, clientHeight } = byId("relief-plot");
  const farther = Math.max(1, (WIDE * clientHeight) / Math.max(clientWidth, 1));
  return Object.fromEntries(Object.entries(FIRST_EYE).map(([name, value]) => [name, value * farther]));
}

function webglWorks() {
  const canvas = element("canvas");
  return Boolean(canvas.getContext("webgl2") ?? canvas.getContext("webgl"));
}

// A pixel; where it is void, the mean of the known ones around it, if these are the most: single voids would
// tear holes into a mesh. Without them, null.
function meshValue({ width, height, values }, row, col) {
  const isKnown = (value) => value === value && !(values instanceof Uint8Array && value === 0);
  const here = values[row * width + col];
  if (isKnown(here)) return here;
  const known = [];
  for (let r = Math.max(row - 1, 0); r <= Math.min(row + 1, height - 1); r++) {
    for (let c = Math.max(col - 1, 0); c <= Math.min(col + 1, width - 1); c++) {
      if (isKnown(values[r * width + c])) known.push(values[r * width + c]);
    }
  }
  return known.length > 4 ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

// Rows of pixels, one out of several, from the south: the axes point to the east and to the north.
function thinned(picture) {
  const { width, height } = picture;
  const step = Math.ceil(Math.max(width, height) / MESH);
  const rows = [];
  for (let row = Math.floor((height - 1) / step) * step; row >= 0; row -= step) {
    const line = [];
    for (let col = 0; col < width; col += step) line.push(meshValue(picture, row, col));
    rows.push(line);
  }
  return { rows, step };
}

// The heights that all surfaces are shown between: without the outermost of each thousand.
async function heightRange() {
  const ends = await Promise.all(surfaces().map(async ({ index }) => {
    const known = (await layerOf(shown.view, index)).values.filter((height) => height === height).sort();
    const at = (share) => known[Math.min(Math.floor(share * known.length), known.length - 1)];
    return known.length ? [at(0.001), at(0.999)] : [];
  }));
  const all = ends.flat();
  const [low, high] = all.length ? [Math.min(...all), Math.max(...all)] : [0, 1];
  const margin = Math.max(0.03 * (high - low), 0.5);
  return [low - margin, high + margin];
}

async function shadedOf(index) {
  const picture = await layerOf(shown.view, index);
  return { ...picture, values: reliefOf(picture, viewShown().pixel_m) };
}

async function surfaceColours(index) {
  const chosen = byId("relief-colour").value;
  const narrow = byId("relief-plot").clientWidth < 560;
  const place = narrow ? { orientation: "h", x: 0.5, y: 0, yanchor: "bottom", len: 0.8 } : { x: 1, xanchor: "right", len: 0.6 };
  const bar = { thickness: 10, outlinewidth: 0, ...place, title: { text: "m", side: narrow ? "right" : "top" } };
  if (chosen === "height") return { colorscale: HEIGHT_COLOURS, colorbar: bar };
  if (chosen === "difference") {
    const colorscale = BLUE_TO_RED.map((one, i) => [i / (BLUE_TO_RED.length - 1), `rgb(${one})`]);
    const surfacecolor = thinned(await differenceOf(shown.view, index)).rows;
    return { surfacecolor, colorscale, cmin: -shown.limit, cmax: shown.limit, colorbar: bar };
  }
  const { rows } = thinned(chosen === "relief" ? await shadedOf(index) : await pictureOf(shown.view, chosen));
  return { surfacecolor: rows, colorscale: [[0, "#000"], [1, "#fff"]], cmin: 0, cmax: 255, showscale: false };
}

function reliefScene(view, [low, high]) {
  const [wide, deep] = [view.width * view.pixel_m[0], view.height * view.pixel_m[1]];
  const longest = Math.max(wide, deep);
  const stretch = Number(byId("relief-stretch").value);
  const line = (title, range) => ({
    title: { text: title }, range, color: colour("soft"), gridcolor: colour("line"), zeroline: false, nticks: 5,
    backgroundcolor: "rgba(0,0,0,0)", showspikes: false,
  });
  return {
    xaxis: line("east [m]", [0, wide]), yaxis: line("north [m]", [0, deep]), zaxis: line("height [m]", [low, high]),
    aspectmode: "manual",
    aspectratio: {
      x: Math.max((1.5 * wide) / longest, 0.15), y: Math.max((1.5 * deep) / longest, 0.15),
      z: Math.min(Math.max((1.5 * stretch * (high - low)) / longest, 0.02), 1.5),
    },
    camera: { eye: { ...eye }, center: { x: 0, y: 0, z: -0.12 } },
  };
}

function sayOfRelief(text) {
  byId("relief-stated").hidden = !text;
  byId("relief-stated").textContent = text;
  byId("relief-plot").hidden = Boolean(text);
}

const drawRelief = newest(async (overtaken) => {
  if (!webglWorks()) {
    sayOfRelief("This browser cannot draw in three dimensions (WebGL is switched off or missing). All else on this page works.");
    return;
  }
  const index = Number(byId("relief-surface").value.split("-")[1]);
  const picture = await layerOf(shown.view, index);
  if (!picture.values.some((height) => height === height)) {
    sayOfRelief(`${content.layers[index].name} has no height in this area.`);
    return;
  }
  const view = viewShown();
  const [range, colours, Plotly] = await Promise.all([heightRange(), surfaceColours(index), plotly()]);
  if (overtaken()) return;
  sayOfRelief("");
  eye ??= firstEye();
  const { rows, step } = thinned(picture);
  const along = (count, size) => Array.from({ length: count }, (_, i) => (i * step + 0.5) * size);
  const surface = {
    type: "surface", z: rows, x: along(rows[0].length, view.pixel_m[0]), y: along(rows.length, view.pixel_m[1]),
    lighting: { ambient: 0.5, diffuse: 0.85, specular: 0.03, roughness: 0.95 }, lightposition: { x: -3e4, y: 3e4, z: 4e4 },
    hovertemplate: "%{z:.2f} m<extra></extra>", contours: { x: { highlight: false }, y: { highlight: false }, z: { highlight: false } },
    ...(byId("relief-colour").value === "height" ? { cmin: range[0], cmax: range[1] } : {}), ...colours,
  };
  const plot = byId("relief-plot");
  const first = !plot.on;
  const layout = { ...plotLayout({ margin: { l: 0, r: 0, t: 0, b: 0 } }), dragmode: "turntable", hovermode: "closest", scene: reliefScene(view, range) };
  await Plotly.react(plot, [surface], layout, PLOT_CONFIG);
  if (first) plot.on("plotly_relayout", (event) => { if (event["scene.camera"]) eye = event["scene.camera"].eye; });
  plot.setAttribute("aria-label", `3D view of ${content.layers[index].name}, ${view.name}`);
  plot.dataset.drawn = "true";
});

// The eye in other words: the angle around, the angle up, the distance.
const TURNS = {
  left: ([around, up, far]) => [around - TURN, up, far],
  right: ([around, up, far]) => [around + TURN, up, far],
  up: ([around, up, far]) => [around, Math.min(up + TURN / 2, 1.5), far],
  down: ([around, up, far]) => [around, Math.max(up - TURN / 2, 0.05), far],
  closer: ([around, up, far]) => [around, up, Math.max(far / 1.2, 0.2)],
  farther: ([around, up, far]) => [around, up, Math.min(far * 1.2, 5)],
};

const turn = newest(async (_, how) => {
  eye ??= firstEye();
  if (how === "reset") eye = firstEye();
  else {
    const flat = Math.hypot(eye.x, eye.y);
    const place = [Math.atan2(eye.y, eye.x), Math.atan2(eye.z, flat), Math.hypot(flat, eye.z)];
    const [around, up, far] = TURNS[how](place);
    eye = { x: far * Math.cos(up) * Math.cos(around), y: far * Math.cos(up) * Math.sin(around), z: far * Math.sin(up) };
  }
  const plot = byId("relief-plot");
  if (plot.on) await (await plotly()).relayout(plot, { "scene.camera.eye": { ...eye } });
});

function setUpRelief() {
  for (const id of ["relief-surface", "relief-colour", "relief-stretch"]) byId(id).addEventListener("change", drawRelief);
  for (const button of document.querySelectorAll("[data-turn]")) {
    button.addEventListener("click", () => turn(button.dataset.turn));
  }
  // Drawn when it comes near, so that the page is there at once.
  let near = false;
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    near = true;
    drawRelief();
  }, { rootMargin: "400px" }).observe(byId("relief"));
  watch(() => near && drawRelief());
}
