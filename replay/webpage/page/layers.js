// All layers beside the one that is shown: what each is, and some of its maps at this frame.

const THUMBS = 8, THUMB = 28, THINNEST = 8; // pixels; of a signal, one row
let entries = []; // { layer, button, canvas }
function layLayers() {
  const width = THUMBS * THUMB + (THUMBS - 1) * 2;
  entries = layers.flatMap((about, layer) => {
    if (layer % runs.length || (inColours() && !about.components)) return [];
    const canvas = make("canvas", { width, height: THUMB, "aria-hidden": "true" });
    const name = make("b", {}, about.short ?? about.name);
    const button = make("button", { type: "button", className: "layer", title: [about.name, ...about.words].join(", ") },
      make("span", { className: "layer-words" }, name, make("span", { className: "muted" }, about.maps)), canvas);
    button.dataset.layer = about.name;
    button.addEventListener("click", () => chooseLayer(layer));
    return [{ layer, button, canvas }];
  });
  $("layers").replaceChildren(...entries.map(({ button }) => make("li", {}, button)));
  $("layers-head").textContent = `${entries.length} ${entries.length === 1 ? "layer" : "layers"}`;
  $("layer").replaceChildren(...entries.map(({ layer }) =>
    make("option", { value: String(layer) }, layers[layer].short ?? layers[layer].name)));
  tellLayer();
}
function tellLayer() {
  $("layer").value = String(state.layer);
  for (const { layer, button } of entries) {
    if (layer === state.layer) button.setAttribute("aria-current", "true"); else button.removeAttribute("aria-current");
  }
  const about = layers[state.layer];
  $("words").replaceChildren(make("b", {}, about.name), ...about.words.flatMap((part) => [" ", make("span", {}, part)]));
  $("channels").value = texts.get(about.name) ?? "";
  $("channels").setAttribute("aria-invalid", "false");
}

let drawn = "", drawing = false;
const idle = () => new Promise((done) => setTimeout(done, 0));
async function paintOverview() { // when nothing else is to be done, and what is in sight first
  if (drawing || state.playing || !$("side").offsetParent) return;
  drawing = true;
  try {
    for (;;) {
      const { frame } = state, one = source, settings = [$("scale").value, $("cmap").value, $("symmetric").checked];
      const wanted = [one.place, frame, count, ...settings].join(" ");
      if (wanted === drawn) return;
      for (const entry of entries) {
        const box = entry.button.getBoundingClientRect();
        if (box.bottom < 0 || box.top > 2 * innerHeight) continue;
        const decoded = await loadMaps(one, entry.layer, frame);
        if (one !== source || frame !== state.frame || state.playing || !entries.includes(entry)) break;
        paintThumbs(entry, decoded, frame, inColours() ? await loadBasis(one, entry.layer) : null);
        await idle();
      }
      if (one === source && frame === state.frame) drawn = wanted;
      if (state.playing) return;
    }
  } catch (error) {
    fail(error);
  } finally {
    drawing = false;
  }
}
const stamp = make("canvas");
function paintThumbs({ layer, canvas }, decoded, frame, basis) {
  const about = layers[layer], ranges = rangesOf(about, decoded, frame), pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const [height, width] = basis ? about.places.slice(1) : about.shape, zoom = THUMB / Math.max(height, width);
  const [wide, high] = [Math.max(THINNEST, width * zoom), Math.max(THINNEST, height * zoom)];
  const absent = isAbsent(layer, frame);
  pen.strokeStyle = getComputedStyle(canvas).getPropertyValue("--line");
  for (let place = 0; place < (basis ? 1 : Math.min(THUMBS, about.channels.length)); place++) {
    if (absent || outlined(about.shape)) pen.strokeRect(place * (THUMB + 2) + 0.5, 0.5, wide - 1, high - 1);
    if (absent) continue;
    if (basis) fillComponents(stamp, decoded, about, basis);
    else fillMap(stamp, decoded, place, about.shape, ranges[place], coloursNow(about, false));
    pen.imageSmoothingEnabled = zoom < 1;
    const edge = outlined(about.shape) && !basis ? 1 : 0;
    pen.drawImage(stamp, place * (THUMB + 2) + edge, edge, wide - 2 * edge, high - 2 * edge);
  }
}
