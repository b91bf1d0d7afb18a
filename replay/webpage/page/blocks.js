// Blocks of the page, or of the server that it comes from, decoded and kept for a while.

async function fetched(id) { // in a live page, with what is known of a layer's frame
  const answer = await fetch(`block/${id}`);
  if (!answer.ok) throw new Error(await answer.text());
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const size = new DataView(bytes.buffer).getUint32(0, true);
  const facts = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  if (facts) {
    const [place, , layer, frame] = id.slice(1).split("-").map(Number), one = data.sources[place];
    const about = one.layers[layer];
    for (const name of ["frame", "unfinite", "reach", "bare", "absent", "remarks"]) about[name][frame] = facts[name];
    for (const name of ["run", "channel", "largest"]) about[name] = facts[name];
    about.epochs[one.frames.epoch[frame]] = facts.epoch;
  }
  return bytes.subarray(4 + size);
}
// A block that stands behind the script is whole when something stands behind it.
const parsed = new Promise((done) => {
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", done); else done();
});
async function arrived(id) {
  if (!$(id)?.nextElementSibling) await parsed;
  return sevenBits($(id).textContent);
}
const block = async (id) => inflate(await (data.live ? fetched : arrived)(id));

const decoded = new Map(); // id -> { promise, size }, the least recently used first
let held = 0;
function load(id, size, decode) {
  let entry = decoded.get(id);
  if (entry) {
    decoded.delete(id);
  } else {
    entry = { size, promise: block(id).then(decode) };
    entry.promise.catch(() => decoded.delete(id)); // to be asked for again
    held += size;
  }
  decoded.set(id, entry);
  for (const [old, { size }] of decoded) {
    if (held <= KEPT || old === id) break;
    decoded.delete(old);
    held -= size;
  }
  return entry.promise;
}
function loadMaps(one, layer, frame) {
  const about = one.layers[layer], size = 2 * about.channels.length * about.shape[0] * about.shape[1];
  return load(`s${one.place}-layer-${layer}-${frame}`, size, async (bytes) =>
    decodeFrame(bytes, about, bytes[0] & 2 ? await loadMaps(one, layer, frame - 1) : null,
      bytes[0] & 4 ? await loadInput(one, frame, 0) : null));
}
function loadInput(one, frame, run) {
  const picture = one.runs ? one.runs[run].input : one.input;
  if (!picture) return Promise.resolve(null);
  const id = `s${one.place}-input${run ? "-b" : ""}-${picture.fixed ? 0 : frame}`;
  return load(id, 6 * picture.shape[0] * picture.shape[1], (bytes) => decodePicture(bytes, picture));
}

const extremes = new Map(); // id -> Float32Array (frame, channel, 2)
async function loadExtremes(one, layer) {
  const id = `s${one.place}-layer-${layer}-extremes`;
  const needed = count * one.layers[layer].channels.length * 2;
  if (!(extremes.get(id)?.length >= needed)) {
    const bytes = await block(id), view = new DataView(bytes.buffer, bytes.byteOffset);
    extremes.set(id, Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true)));
  }
  return extremes.get(id);
}
