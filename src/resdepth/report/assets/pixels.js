// What the page holds: its description, and pixels, which are unpacked when they are first looked at, and become
// colours.
// A picture is {kind, width, height, values}: heights as Float32Array (NaN = void), images and masks as
// Uint8Array (0 = void).

const content = JSON.parse(document.getElementById("content").textContent);
const unpacked = new Map();

function byId(id) {
  return document.getElementById(id);
}

function bytesOf(id) {
  const text = atob(byId(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflated(id) {
  const stream = new Blob([bytesOf(id)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The inverse of page_pixels.py, packed_heights.
function heightsOf(bytes, count) {
  const heights = new Float32Array(count);
  let code = 0;
  for (let i = 0; i < count; i++) {
    const folded = bytes[i] | (bytes[count + i] << 8) | (bytes[2 * count + i] << 16);
    code += (folded >>> 1) ^ -(folded & 1);
    const isVoid = bytes[3 * count + (i >> 3)] & (128 >> (i & 7));
    heights[i] = isVoid ? NaN : code * content.height_step_m;
  }
  return heights;
}

// The inverse of page_pixels.py, packed_bytes.
function valuesOf(bytes) {
  for (let i = 1; i < bytes.length; i++) bytes[i] += bytes[i - 1];
  return bytes;
}

async function unpack(viewIndex, layerIndex) {
  const view = content.views[viewIndex];
  const { kind } = content.layers[layerIndex];
  if (view.part_of_whole) return cut(await layerOf(0, layerIndex), view.window);
  const bytes = await inflated(view.blobs[layerIndex]);
  const values = kind === "height" ? heightsOf(bytes, view.height * view.width) : valuesOf(bytes);
  return { kind, width: view.width, height: view.height, values };
}

function cut(picture, [row, col, height, width]) {
  const values = new picture.values.constructor(height * width);
  for (let r = 0; r < height; r++) {
    const start = (row + r) * picture.width + col;
    values.set(picture.values.subarray(start, start + width), r * width);
  }
  return { kind: picture.kind, width, height, values };
}

// The pixels of a layer in a view; a promise, kept.
function layerOf(viewIndex, layerIndex) {
  const key = `${viewIndex} ${layerIndex}`;
  if (!unpacked.has(key)) unpacked.set(key, unpack(viewIndex, layerIndex));
  return unpacked.get(key);
}

// Heights of a surface minus those of the reference.
async function differenceOf(viewIndex, layerIndex) {
  const [of, reference] = await Promise.all([
    layerOf(viewIndex, layerIndex),
    layerOf(viewIndex, content.reference),
  ]);
  const values = of.values.map((height, i) => {
    const difference = height - reference.values[i];
    // Both are whole centimetres; their difference is, too.
    return Math.round(difference / content.height_step_m) * content.height_step_m;
  });
  return { kind: "difference", width: of.width, height: of.height, values };
}

// "layer-2" or "difference-1", as selections name pictures.
function pictureOf(viewIndex, name) {
  const [what, index] = name.split("-");
  return what === "layer" ? layerOf(viewIndex, Number(index)) : differenceOf(viewIndex, Number(index));
}

function nameOf(name) {
  const [what, index] = name.split("-");
  const of = content.layers[index].name;
  return what === "layer" ? of : `${of} minus ${withinASentence(content.layers[content.reference].name)}`;
}

function withinASentence(name) {
  return /^(Reference|Initial|Refined)\b/.test(name) ? name[0].toLowerCase() + name.slice(1) : name;
}

function surfaces() {
  return content.layers.flatMap(({ kind, name }, index) => (kind === "height" ? [{ name, index }] : []));
}

// What is shown at present, and who wants to know when that changes.
const shown = { view: 0, limit: null };
const watchers = [];

function watch(watcher) {
  watchers.push(watcher);
}

function changed() {
  return Promise.all(watchers.map((watcher) => watcher()));
}

// Runs the newest of several overlapping drawings to its end; `draw` gets a function that states whether to stop.
// While anything is being drawn, the page says that it is busy.
let drawings = 0;

function newest(draw) {
  let current = 0;
  return async (...values) => {
    const mine = ++current;
    drawings += 1;
    byId("main").ariaBusy = "true";
    try {
      await draw(() => mine !== current, ...values);
    } finally {
      drawings -= 1;
      byId("main").ariaBusy = String(drawings > 0);
    }
  };
}

// From pixels to colours: relief, errors, grey values, masks. Void is transparent; the map behind is hatched.

const SUN = [-0.5, 0.5, Math.SQRT1_2]; // towards the north-west, 45 degrees up: east, north, up
// ColorBrewer's RdBu from its last class to its first: blue below, red above; distinguished by all eyes.
const BLUE_TO_RED = [
  [5, 48, 97], [33, 102, 172], [67, 147, 195], [146, 197, 222], [209, 229, 240], [247, 247, 247],
  [253, 219, 199], [244, 165, 130], [214, 96, 77], [178, 24, 43], [103, 0, 31],
];
const STEPS = 256;
const ERROR_COLOURS = Array.from({ length: STEPS }, (_, i) => between(BLUE_TO_RED, i / (STEPS - 1)));

function between(colours, share) {
  const place = Math.min(Math.max(share, 0), 1) * (colours.length - 1);
  const first = Math.min(Math.floor(place), colours.length - 2);
  return colours[first].map((value, i) => Math.round(value + (place - first) * (colours[first + 1][i] - value)));
}

// The slope between the neighbours of a pixel that are known; 0 where none is.
function slope(before, here, after, size) {
  if (before === before && after === after) return (after - before) / (2 * size);
  if (after === after) return (after - here) / size;
  return before === before ? (here - before) / size : 0;
}

function reliefOf({ width, height, values }, [across, down]) {
  const grey = new Uint8Array(values.length);
  for (let row = 0; row < height; row++) {
    for (let col = 0; col < width; col++) {
      const i = row * width + col;
      const here = values[i];
      if (here !== here) continue;
      const west = col > 0 ? values[i - 1] : NaN;
      const east = col < width - 1 ? values[i + 1] : NaN;
      const north = row > 0 ? values[i - width] : NaN;
      const south = row < height - 1 ? values[i + width] : NaN;
      const rise = slope(west, here, east, across);
      const fall = slope(north, here, south, down); // downwards on the map is southwards
      const light = (SUN[0] * -rise + SUN[1] * fall + SUN[2]) / Math.hypot(rise, fall, 1);
      grey[i] = 1 + Math.round(254 * Math.min(Math.max(light, 0), 1));
    }
  }
  return grey;
}

function greyPixels(grey) {
  const colours = new Uint8ClampedArray(4 * grey.length);
  for (let i = 0; i < grey.length; i++) {
    if (grey[i] === 0) continue;
    colours[4 * i] = colours[4 * i + 1] = colours[4 * i + 2] = grey[i];
    colours[4 * i + 3] = 255;
  }
  return colours;
}

function differencePixels(values, limit) {
  const colours = new Uint8ClampedArray(4 * values.length);
  for (let i = 0; i < values.length; i++) {
    if (values[i] !== values[i]) continue;
    const share = Math.min(Math.max(values[i] / (2 * limit) + 0.5, 0), 1);
    colours.set(ERROR_COLOURS[Math.round(share * (STEPS - 1))], 4 * i);
    colours[4 * i + 3] = 255;
  }
  return colours;
}

// A mask as it is packed: 0 void, 1 outside, 2 inside.
const MASK_GREYS = [0, 250, 45];

function coloursOf(picture, view) {
  if (picture.kind === "height") return greyPixels(reliefOf(picture, view.pixel_m));
  if (picture.kind === "difference") return differencePixels(picture.values, shown.limit);
  if (picture.kind === "mask") return greyPixels(picture.values.map((value) => MASK_GREYS[value]));
  return greyPixels(picture.values);
}
