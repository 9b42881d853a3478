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
