// The maps of a layer, side by side: a tile for each, as large as there is room for.

const LONGEST = 12; // times as long as high, as it is drawn
let tiles = []; // { layer, channel, place, button, canvas, under, bar }; of a difference, layer is null
const named = (channel, layer) => `${channel === null ? "Components" : `Map ${channel}`} of ${layers[layer].name}` +
  (several ? `, ${runs[layer - state.layer].name}` : "");
const chosenOf = (about) => {
  const text = texts.get(about.name) ?? "";
  return text.trim() ? readChannels(text, about) : null;
};

function readChannels(text, { channels }) {
  const chosen = [];
  for (const part of text.split(",")) {
    const match = /^\s*(\d+)\s*(?:-\s*(\d+)\s*)?$/.exec(part);
    if (!match) throw new Error(`cannot read channels “${part.trim()}”; expected a list such as 0,3,8-11`);
    const first = Number(match[1]), last = Number(match[2] ?? match[1]);
    const span = channels.filter((channel) => channel >= first && channel <= last);
    if (!span.length || (match[2] === undefined && !channels.includes(first)))
      throw new Error(`no channel ${part.trim()} here; there are ${channels.length}, from ` +
        `${Math.min(...channels)} to ${Math.max(...channels)}`);
    chosen.push(...span);
  }
  return [...new Set(chosen)];
}

function lay() {
  const about = layers[state.layer], asked = chosenOf(about);
  const most = liesOver() ? MOST_OVER : MOST;
  const shown = inColours() ? [null] : asked ?? about.channels.slice(0, most);
  tellView();
  $("shown").hidden = inColours() || asked !== null || shown.length === about.channels.length;
  $("shown").textContent = `The first ${most} of ${about.channels.length.toLocaleString("en")} maps; name others under “channels”.`;
  const columns = [...mates(state.layer), ...(several && state.difference && !inColours() && !liesOver() ? [null] : [])];
  tiles = columns.flatMap((layer) => shown.map((channel) => tile(channel, layer)));
  const groups = columns.map((layer) => tiles.filter((one) => one.layer === layer).map(({ button }) => button));
  $("maps").classList.toggle("paired", several);
  $("maps").replaceChildren(...groups.map((group, run) => {
    const grid = make("div", { className: "tiles" }, ...group);
    if (!several) return grid;
    const name = runs[run]?.name ?? `${runs[1].name} − ${runs[0].name}`;
    return make("section", { className: runs[run] ? "run" : "run difference", "aria-label": name }, make("h3", {}, name),
      make("p", { id: `facts-${run}`, className: "small" }), grid);
  }));
  size();
}
function tile(channel, layer) {
  const whole = channel === null, words = whole ? named(null, layer)
    : layer === null ? `Difference of map ${channel} of ${layers[state.layer].name}` : named(channel, layer);
  const canvas = make("canvas", { role: "img", "aria-label": words });
  const bar = make("span", { className: "gain" }, make("span"));
  const under = make("span", { className: "under" }, make("span", { className: "number" }, whole ? "" : String(channel)),
    make("span", { className: "mark" }), bar);
  const button = make("button", { type: "button", className: "map", title: `enlarge map ${channel}` }, canvas, under);
  button.dataset.channel = whole ? "components" : channel;
  button.dataset.run = layer === null ? "difference" : layer - state.layer;
  if (whole) {
    under.hidden = true;
  }
  if (layer === null || whole) {
    button.disabled = true;
    button.removeAttribute("title");
  } else {
    button.setAttribute("aria-haspopup", "dialog");
    button.addEventListener("click", () => enlarge(channel, layer));
  }
  return { layer, channel, place: layers[state.layer].channels.indexOf(channel), button, canvas, bar, words };
}

// A map of next to no pixels, such as a white 1×1, would else look as if it were not there.
const outlined = ([height, width]) => height * width < 16;
// Very long maps are drawn out like signals, with pixels that are not square.
function drawnShape([height, width]) {
  return [Math.max(height, Math.round(width / LONGEST)), Math.max(width, Math.round(height / LONGEST))];
}
// The largest tiles with which all maps fit; where they would be too small, so large that one has to
// scroll. Where whole pixels of the screen are nearly as large for a map's, those are taken.
function size() {
  const [height, width] = drawnShape(tileShape()), dense = devicePixelRatio || 1;
  const box = $("maps"), grids = [...box.querySelectorAll(".tiles")];
  if (!grids.length || !box.clientWidth) return;
  const stacked = getComputedStyle(box).gridTemplateColumns.split(" ").length < grids.length;
  const beside = stacked ? 1 : grids.length;
  const room = (box.clientWidth - 20 * (beside - 1)) / beside;
  const above = several ? grids[0].offsetTop - grids[0].parentElement.offsetTop : 0;
  const bottom = $("shown").hidden ? 0 : $("shown").offsetHeight;
  const tall = (box.clientHeight - bottom + 20) / (stacked ? grids.length : 1) - 20 - above;
  const many = tiles.length / grids.length, least = Math.min(room, innerWidth < 700 ? 56 : 44);
  const chosen = Number($("zoom").value);
  let best = null;
  for (let columns = 1; columns <= many; columns++) {
    const rows = Math.ceil(many / columns);
    for (const label of [18, 0]) { // very small tiles have no number
      const gap = label ? 8 : 3;
      const zoom = Math.min((room - gap * (columns - 1)) / columns / width, (tall - gap * (rows - 1)) / rows / height - label / height);
      if (zoom <= 0 || (label === 0 && zoom * width >= least)) continue;
      if (!best || zoom > best.zoom * 1.0001) best = { zoom, columns, label, gap };
    }
  }
  const fits = best && best.zoom * width >= Math.min(least, 30);
  if (!fits || chosen) {
    const zoom = chosen ? chosen / dense : Math.max(1 / dense, least / width);
    const label = zoom * width < 28 ? 0 : 18, gap = label ? 8 : 3;
    best = { zoom, columns: Math.max(1, Math.min(many, Math.floor((room + gap) / (zoom * width + gap)))), label, gap };
    best.zoom = Math.min(zoom, room / width);
  }
  const whole = Math.floor(best.zoom * dense) / dense;
  if (whole >= best.zoom * (best.zoom * dense < 3 ? 0.92 : 5 / 6)) best.zoom = whole;
  box.classList.toggle("dense", best.label === 0);
  box.classList.toggle("smooth", Math.abs(best.zoom * dense - Math.round(best.zoom * dense)) > 1e-6);
  const cell = best.zoom * width;
  box.classList.toggle("slim", cell < 90);
  box.classList.toggle("outlined", outlined(tileShape()));
  for (const grid of grids) {
    grid.style.setProperty("--columns", best.columns);
    grid.style.setProperty("--cell", `${cell}px`);
    grid.style.gap = `${best.gap}px`;
  }
  for (const { canvas } of tiles) canvas.style.aspectRatio = `${width} / ${height}`;
  $("zoom").options[0].textContent = chosen ? "fit" : `fit (${number(best.zoom * dense)}×)`;
  if (state.enlarged !== null) sizeEnlarged();
}

// Over the input each map has a range of its own or all have one; the number is where that ends.
function markOver(one, decoded, flat, [low, high]) {
  const end = `${low < 0 ? "±" : "≤ "}${number(high)}`, words = flat === 2 ? ", constant" : flat === 1 ? ", faint" : "";
  one.bar.hidden = true;
  one.button.querySelector(".mark").textContent = end;
  one.button.classList.toggle("flat", Boolean(flat));
  one.button.title = `map ${one.channel}: values from ${decoded.extremes[one.place].map(number).join(" to ")}${words}`;
  return ` over the input, shown from ${number(low)} to ${number(high)}${words}`;
}
// Where there is no frame, no map has a strength.
function markEmpty({ button, bar, channel }) {
  bar.hidden = true;
  button.querySelector(".mark").textContent = "";
  button.classList.remove("flat");
  if (!button.disabled) button.title = `map ${channel}: ${NO_FRAME}`;
}
// The bar under a map: its range against the largest of the layer, from 1/1000 to 1, logarithmic.
function mark(one, decoded, frame, scale, ends) {
  const about = layers[one.layer], flat = decoded.flat[one.place];
  if (liesOver(about)) return markOver(one, decoded, flat, ends);
  const gain = gainOf(about, decoded, one.place, frame, scale), told = GAINS.includes(scale);
  one.bar.hidden = !told;
  one.bar.firstChild.style.width = `${gain > 0 ? Math.max(0, 100 * (1 + Math.log10(gain) / 3)) : 0}%`;
  const words = flat === 2 ? "constant" : flat === 1 ? "faint" : "", seen = told && gain > 0;
  one.button.querySelector(".mark").textContent = words || (seen ? `×${number(Number(gain.toPrecision(2)))}` : "");
  one.button.classList.toggle("flat", Boolean(flat));
  const range = decoded.extremes[one.place].map(number).join(" to ");
  one.button.title = `map ${one.channel}: values from ${range}${words ? `, ${words}` : ""}` +
    (seen ? `; shown range ${number(gain)} of the layer's largest` : "");
  if (words) return `, ${words}`;
  return seen ? `, range ${number(gain)} of the layer's largest` : "";
}
