// What the page makes of the maps that it has: their channels as three colours, and maps over the
// input picture. The counterpart of components_data.py and over_input.py, in the same order of
// operations.

const OPACITY = 0.85, FULL_AT = 0.6, MIDDLE = 128, MOST_OVER = 64;
const usual = data.usual.map(colourTable);

// ------------------------------------------------------------------ which view

// What can be chosen: images, and what is shown of them.
const choicesOf = () => data.sources.flatMap((one, place) => one.views
  .filter((view) => view !== "components" || one.layers.some(({ components }) => components))
  .map((view) => ({ place, view, words: one.words, key: view === one.view ? one.key : `${one.key}-${view}` })));
const chosenKey = () => choicesOf().find(({ place, view }) => place === state.source && view === state.view)?.key ?? source.key;
const inColours = () => state.view === "components";
const mayLie = (about) => Boolean(about.places && pictures[0]) && !inColours();
const liesOver = (about = layers[state.layer]) => state.over && mayLie(about);
const isSigned = (about) => $("symmetric").checked || about.run[0] < 0;
const lookKey = () => `${state.view}${state.over ? " over" : ""}`;

function tileShape() { // height and width of what a tile shows
  const { shape, places } = layers[state.layer];
  if (inColours() && places) return places.slice(1);
  return liesOver() ? pictures[0].shape.map((side, axis) => Math.max(side, places[1 + axis])) : shape;
}
function findLayer(name) { // that of a name, or the one that suits the view
  const same = layers.findIndex((about) => about.name === name && (!inColours() || about.components));
  if (same >= 0 || !inColours()) return Math.max(same, 0);
  const last = layers.reduce((found, { components }, place) => components ? place : found, 0);
  return last - last % runs.length;
}
// The colours of values; "auto" is what suits them.
function coloursNow(about, over = liesOver(about)) {
  const name = $("cmap").value;
  if (name !== "auto") return tables[name];
  if (over) return usual[Number(isSigned(about))];
  return tables[(source.colours ?? [data.cmap])[0]];
}
function tellView() { // which controls say something
  const about = layers[state.layer];
  $("over").hidden = inColours() || !layers.some(mayLie);
  $("over").disabled = !mayLie(about);
  $("over").setAttribute("aria-pressed", String(liesOver(about)));
  for (const id of ["scale", "cmap", "channels", "symmetric", "difference"]) $(id).disabled = inColours();
}
function toggleOver() {
  if (!mayLie(layers[state.layer])) return;
  const before = lookKey();
  state.over = !state.over;
  takeColours(before);
  lay();
  say(state.over ? "over the input" : "maps alone");
  paint();
}

// ------------------------------------------------------------------ components

const bases = new Map(); // id of a block -> { at, promise }
function loadBasis(one, layer) {
  const { components, channels } = one.layers[layer];
  const id = data.live ? `s${one.place}-layer-${layer}-${components}` : components; // of a live page not shared
  const known = bases.get(id);
  if (known && !(data.live && count >= 1.25 * known.at)) return known.promise;
  const promise = block(id).then((bytes) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), rows = bytes[0];
    const start = 1 + 8 * rows, end = start + 2 * rows * channels.length;
    const scale = (row) => view.getFloat32(1 + 4 * row, true);
    return { words: new TextDecoder().decode(bytes.subarray(end)),
      rows: Array.from({ length: rows }, (_, row) => ({ offset: view.getFloat32(1 + 4 * (rows + row), true),
        factors: Float64Array.from(channels, (_, i) =>
          view.getInt16(start + 2 * (row * channels.length + i), true) * scale(row)) })) };
  });
  promise.catch(() => bases.delete(id));
  bases.set(id, { at: count, promise });
  return promise;
}
function fillComponents(canvas, decoded, { places: [first, height, width] }, { rows }) {
  const [image] = picture(canvas, [height, width]), size = height * width, { data: pixels } = image;
  pixels.fill(MIDDLE);
  rows.forEach(({ offset, factors }, row) => {
    const total = new Float64Array(size).fill(offset);
    factors.forEach((factor, channel) => {
      const start = channel * decoded.size + first, low = decoded.low[channel], step = decoded.steps[channel];
      for (let i = 0; i < size; i++) total[i] += factor * (low + decoded.levels[start + i] * step);
    });
    for (let i = 0; i < size; i++) pixels[4 * i + row] = Math.floor(Math.min(Math.max(total[i], 0), 255) + 0.5);
  });
  const none = tables.gray[NAN];
  for (let i = 0; i < size; i++) {
    if (rows.length === 1) pixels[4 * i + 1] = pixels[4 * i + 2] = pixels[4 * i];
    pixels[4 * i + 3] = 255;
  }
  for (let at = first, channel = 0; decoded.odd && channel < decoded.highest.length; channel++, at += decoded.size)
    for (let i = 0; i < size; i++)
      if (decoded.odd[at + i]) for (let c = 0; c < 3; c++) pixels[4 * i + c] = none >> 8 * c & 255;
  canvas.getContext("2d").putImageData(image, 0, 0);
}
function describeColours({ words, rows }) {
  const [image] = picture($("bar"), [1, LAST + 1]), wide = (LAST + 1) / Math.max(rows.length, 1);
  for (let i = 0; i <= LAST; i++) {
    const row = Math.floor(i / wide), level = 255 * (i - row * wide) / (wide - 1);
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = rows.length === 1 || c === row ? level : 0;
    image.data[4 * i + 3] = 255;
  }
  $("bar").getContext("2d").putImageData(image, 0, 0);
  $("bar").setAttribute("aria-label", `Colours: ${words}`);
  const [shares, of] = words.split(" of ");
  $("low").textContent = shares;
  $("high").textContent = "";
  $("zero").hidden = true;
  $("scale-words").textContent = `Principal components of ${of ?? "its channels"}, of how places differ, and their ` +
    "shares of the variance: one basis and one range for the whole run" + (source.words === "first image" ? "." : " and all fixed images.");
}

// ------------------------------------------------------------------ over the input picture

function overRange([low, high], signed) { // from zero, or symmetric around it
  const reach = (signed ? Math.max(Math.abs(low), Math.abs(high)) : Math.max(high, 0)) || 1;
  return [signed ? -reach : 0, reach];
}
const mixtures = new Map(); // colours -> [of values from zero, of both signs], pixels by level and gray
function mixture(colours, signed) {
  if (!mixtures.has(colours)) mixtures.set(colours, []);
  const found = mixtures.get(colours);
  return found[Number(signed)] || (found[Number(signed)] = mix(colours, signed));
}
function mix(colours, signed) {
  const found = new Uint32Array(65536);
  for (let level = 0; level < 256; level++) {
    const part = level / LAST, strength = signed ? Math.abs(2 * part - 1) : part;
    const opacity = level > LAST ? 1 : OPACITY * Math.min(strength / FULL_AT, 1);
    for (let gray = 0; gray < 256; gray++) {
      let pixel = 255 << 24;
      for (let c = 0; c < 3; c++)
        pixel |= Math.floor(opacity * (colours[level] >> 8 * c & 255) + (1 - opacity) * gray + 0.5) << 8 * c;
      found[level << 8 | gray] = pixel >>> 0;
    }
  }
  return found;
}
const blocksOf = (have, number) => Int32Array.from({ length: number }, (_, i) => Math.min(Math.floor(i * have / number), have - 1));
function between(have, number) { // the value before each pixel, the one after it, and the latter's share
  return Array.from({ length: number }, (_, i) => {
    const place = Math.min(Math.max((i + 0.5) * have / number - 0.5, 0), have - 1), first = Math.floor(place);
    return [first, Math.min(first + 1, have - 1), place - first];
  });
}
// The values of a map at a size, bilinear between the middles of their places.
function enlarged(values, [rows, columns], [height, width]) {
  const across = between(columns, width), wide = new Float64Array(rows * width), out = new Float64Array(height * width);
  for (let row = 0; row < rows; row++)
    across.forEach(([left, right, share], i) =>
      wide[row * width + i] = values[row * columns + left] * (1 - share) + values[row * columns + right] * share);
  between(rows, height).forEach(([above, below, share], row) => {
    for (let i = 0; i < width; i++)
      out[row * width + i] = wide[above * width + i] * (1 - share) + wide[below * width + i] * share;
  });
  return out;
}
function fillOver(canvas, decoded, place, about, [low, high], colours, gray) {
  const [height, width] = tileShape(), [image, words] = picture(canvas, [height, width]);
  const [first, rows, columns] = about.places, start = place * decoded.size + first, size = rows * columns;
  const level = (value) => Math.min(Math.max(Math.floor((value - low) / (high - low) * LAST + 0.5), 0), LAST);
  const odd = decoded.odd?.subarray(start, start + size);
  const values = Float64Array.from({ length: size }, (_, i) =>
    odd?.[i] ? 0 : decoded.low[place] + decoded.levels[start + i] * decoded.steps[place]);
  const smooth = source.smooth ? enlarged(values, [rows, columns], [height, width]) : null;
  const levels = Uint8Array.from(values, level), mixed = mixture(colours, low < 0);
  const down = blocksOf(rows, height), across = blocksOf(columns, width);
  for (let row = 0, at = 0; row < height; row++)
    for (let i = 0; i < width; i++, at++) {
      const here = down[row] * columns + across[i];
      words[at] = mixed[(odd?.[here] ? LAST + odd[here] : smooth ? level(smooth[at]) : levels[here]) << 8 | gray[at]];
    }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
// The brightness of a picture (ITU-R BT.709) at the size of a tile.
function grayOf(planes, [tall, wide]) {
  const [height, width] = tileShape(), size = tall * wide, out = new Uint8Array(height * width);
  const down = blocksOf(tall, height), across = blocksOf(wide, width);
  for (let row = 0, at = 0; row < height; row++)
    for (let i = 0; i < width; i++, at++) {
      const here = down[row] * wide + across[i];
      out[at] = (54 * planes[here] + 183 * planes[size + here] + 19 * planes[2 * size + here]) >> 8;
    }
  return out;
}
