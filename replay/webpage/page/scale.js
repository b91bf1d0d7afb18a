// Ranges of values, levels and colours.

const tables = {}; // colormap -> Uint32Array (256) of opaque pixels
function colourTable(text) {
  const bytes = atob(text);
  return Uint32Array.from({ length: 256 }, (_, i) => (255 << 24
    | bytes.charCodeAt(3 * i + 2) << 16 | bytes.charCodeAt(3 * i + 1) << 8 | bytes.charCodeAt(3 * i)) >>> 0);
}
for (const [name, text] of Object.entries(data.colours)) tables[name] = colourTable(text);
const css = (pixel) => `rgb(${pixel & 255}, ${pixel >> 8 & 255}, ${pixel >> 16 & 255})`;

function widened([low, high]) {
  if (!$("symmetric").checked) return [low, high];
  const reach = Math.max(Math.abs(low), Math.abs(high));
  return reach > 0 ? [-reach, reach] : [-1, 1];
}
// The range that all maps of a frame share; null where each has its own.
function sharedRange(about, frame, scale = $("scale").value) {
  if (GAINS.includes(scale)) return null;
  return widened(scale === "run" ? about.run : scale === "epoch" ? about.epochs[frames.epoch[frame]] : about.frame[frame]);
}
function rangesOf(about, decoded, frame, scale = $("scale").value) { // [low, high] of each channel
  const shared = sharedRange(about, frame, scale);
  if (shared) return decoded.bounds.map(() => shared);
  const found = scale === "adaptive" ? decoded.bounds : scale === "channel" ? about.channel : decoded.extremes;
  return found.map(([low, high]) => widened(high > low ? [low, high] : [low - 0.5, low + 0.5]));
}
function gainOf(about, decoded, place, frame, scale) { // 0 to 1; 0 where nothing is to be seen
  if (decoded.flat[place] || Number.isNaN(decoded.extremes[place][0])) return 0;
  const [low, high] = scale === "map" ? decoded.extremes[place] : scale === "channel" ? about.channel[place] : decoded.bounds[place];
  return about.largest > 0 ? Math.min(1, Math.max(0, (high - low) / about.largest)) : 0;
}
// The same arithmetic, in the same order, as `color_levels` in eight_bit.py.
function pixelTable(low, step, highest, [shownLow, shownHigh], colours) {
  const pixels = new Uint32Array(highest + 1);
  for (let level = 0; level <= highest; level++) {
    const place = Math.floor((low + level * step - shownLow) / (shownHigh - shownLow) * LAST + 0.5);
    pixels[level] = colours[Math.min(Math.max(place, 0), LAST)];
  }
  return pixels;
}
function picture(canvas, [height, width]) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const image = new ImageData(width, height);
  return [image, new Uint32Array(image.data.buffer)];
}
// Whether the layer put out nothing at a frame: its tiles are empty, as in films, and no NaN is there.
const NO_FRAME = "no frame in this batch";
const isAbsent = (layer, frame) => Boolean(layers[layer].absent?.[frame]);
function clear(canvas, shape) {
  const [image] = picture(canvas, shape);
  canvas.getContext("2d").putImageData(image, 0, 0);
}
function fillMap(canvas, decoded, place, shape, range, colours) {
  const [image, words] = picture(canvas, shape), start = place * decoded.size;
  const pixels = pixelTable(decoded.low[place], decoded.steps[place], decoded.highest[place], range, colours);
  for (let i = 0; i < decoded.size; i++) words[i] = pixels[decoded.levels[start + i]];
  if (decoded.odd) for (let i = 0; i < decoded.size; i++)
    if (decoded.odd[start + i]) words[i] = colours[LAST + decoded.odd[start + i]];
  canvas.getContext("2d").putImageData(image, 0, 0);
}
// What b has more than a, white at zero; gives the value at the ends of its scale.
function fillDifference(canvas, a, b, place, shape, colours) {
  const [image, words] = picture(canvas, shape), start = place * a.size;
  const more = new Float64Array(a.size), size = [];
  for (let i = 0; i < a.size; i++) {
    const odd = a.odd?.[start + i] || b.odd?.[start + i];
    more[i] = odd ? NaN : b.low[place] + b.levels[start + i] * b.steps[place] - (a.low[place] + a.levels[start + i] * a.steps[place]);
    if (!odd) size.push(Math.abs(more[i]));
  }
  size.sort((one, other) => one - other);
  const wide = ({ bounds }) => bounds[place][1] - bounds[place][0];
  const reach = Math.max(size[Math.floor(0.99 * (size.length - 1))] ?? 0, Math.max(wide(a), wide(b)) / 8) || 1;
  for (let i = 0; i < a.size; i++) {
    const level = Math.floor((more[i] + reach) / (2 * reach) * LAST + 0.5);
    words[i] = Number.isNaN(more[i]) ? colours[NAN] : colours[Math.min(Math.max(level, 0), LAST)];
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return reach;
}
function fillLevels(canvas, levels, shape, colours) {
  const [image, words] = picture(canvas, shape);
  for (let i = 0; i < words.length; i++) words[i] = colours[levels[i]];
  canvas.getContext("2d").putImageData(image, 0, 0);
}
function fillColours(canvas, levels, shape, interleaved) {
  const [image] = picture(canvas, shape), size = shape[0] * shape[1];
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < 3; c++)
      image.data[4 * i + c] = interleaved ? levels[3 * i + c] : levels[c * size + i];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
