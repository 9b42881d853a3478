// What the page holds: its description, and pixels, which are unpacked when they are first looked at.
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

// The inverse of packing.py, packed_heights.
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

// The inverse of packing.py, packed_bytes.
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
  return /^(Truth|Initial|Refined)\b/.test(name) ? name[0].toLowerCase() + name.slice(1) : name;
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

// Runs the newest of several overlapping drawings to its end; `draw` gets a function that tells it to stop.
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
