// One map, enlarged, with its kernel, its extremes over time and its histogram.

function enlarge(channel, layer = state.large) {
  state.enlarged = channel;
  state.large = layer;
  $("which").textContent = named(channel, layer);
  if (!$("dialog").open) $("dialog").showModal();
  sizeEnlarged();
  paint();
}
function sizeEnlarged() {
  const [height, width] = drawnShape(tileShape()), dense = devicePixelRatio || 1;
  const phone = innerWidth < 760;
  const wide = phone ? innerWidth - 66 : Math.min(600, innerWidth - 340);
  const tall = innerHeight * (phone ? 0.45 : 1) - (phone ? 0 : 130);
  const zoom = Math.floor(Math.min(wide * dense / width, tall * dense / height));
  $("enlarged").style.aspectRatio = `${width} / ${height}`;
  $("enlarged").style.width = `${zoom >= 1 ? width * zoom / dense : Math.min(wide, tall * width / height)}px`;
}
async function paintEnlarged(decoded, ranges, frame, colours, gray) {
  const about = layers[state.large], channel = state.enlarged, place = about.channels.indexOf(channel);
  const absent = isAbsent(state.large, frame);
  $("enlarged").classList.toggle("empty", absent || outlined(about.shape));
  if (absent) clear($("enlarged"), about.shape);
  else if (gray) fillOver($("enlarged"), decoded, place, about, ranges[place], colours, gray);
  else fillMap($("enlarged"), decoded, place, about.shape, ranges[place], colours);
  const [low, high] = ranges[place].map(number);
  const words = absent ? NO_FRAME : `shown from ${low} to ${high}`;
  $("enlarged").setAttribute("aria-label", `${named(channel, state.large)}, enlarged, at ${inWords(frame)}, ${words}`);
  $("status-large").textContent = `${inWords(frame)}; ${words}`;
  $("before").disabled = place === 0;
  $("after").disabled = place === about.channels.length - 1;
  paintKernel(decoded.kernels, place, frame);
  paintHistogram(decoded, place);
  paintExtremes(await loadExtremes(source, state.large), place, frame);
}
function paintKernel(bytes, place, frame) {
  const { kernel } = layers[state.large];
  $("kernels").hidden = !kernel;
  if (!kernel) return;
  const size = kernel.shape[0] * kernel.shape[1] * (kernel.rgb ? 3 : 1);
  const own = bytes.subarray(place * size, (place + 1) * size);
  $("kernel").hidden = Boolean(layers[state.large].bare?.[frame]);
  if ($("kernel").hidden) return void ($("kernel-words").textContent = `${kernel.words}: NaN, or not recorded in this batch`);
  if (kernel.rgb) fillColours($("kernel"), own, kernel.shape, true);
  else fillLevels($("kernel"), own, kernel.shape, tables.RdBu_r);
  const zoom = Math.max(1, Math.floor(72 / Math.max(...kernel.shape)));
  $("kernel").style.width = `${zoom * kernel.shape[1]}px`;
  const reach = data.live ? layers[state.large].reach[frame] : kernel.reach;
  $("kernel-words").textContent = `${kernel.words} ${kernel.shape.join("×")}: ` +
    `${kernel.rgb ? "gray" : "white"} is 0, ends ±${number(reach)}${data.live ? " in this frame" : ""}`;
  $("kernel").setAttribute("aria-label", $("kernel-words").textContent);
}
function paintHistogram(decoded, place) {
  const highest = Math.max(decoded.highest[place], 1), counts = new Float64Array(127);
  const start = place * decoded.size;
  for (let i = start; i < start + decoded.size; i++)
    if (!decoded.odd?.[i]) counts[Math.min(126, Math.floor(decoded.levels[i] / highest * 127))]++;
  const most = Math.sqrt(Math.max(...counts, 1));
  let path = "";
  counts.forEach((n, i) => {
    const x = 1000 * i / 127;
    if (n) path += `M${x.toFixed(1)} 100v${(-100 * Math.sqrt(n) / most).toFixed(2)}h7.9V100z`;
  });
  $("histogram").replaceChildren(canvasOf(draw("path", { d: path, class: "bars" }),
    draw("line", { x1: 0, x2: 1000, y1: 100, y2: 100, class: "axis" })));
  const [low, high] = decoded.extremes[place];
  $("histogram-low").textContent = number(low);
  $("histogram-high").textContent = number(high);
}
function paintExtremes(values, place, frame) {
  const channels = layers[state.large].channels.length;
  const at = (f, end) => values[(f * channels + place) * 2 + end];
  let low = Infinity, high = -Infinity;
  for (let f = 0; f < count; f++) {
    if (Number.isFinite(at(f, 0))) low = Math.min(low, at(f, 0));
    if (Number.isFinite(at(f, 1))) high = Math.max(high, at(f, 1));
  }
  $("extremes-low").textContent = Number.isFinite(low) ? `lowest ${number(low)}` : "no finite value";
  $("extremes-high").textContent = Number.isFinite(high) ? `highest ${number(high)}` : "";
  if (!(low < high)) [low, high] = Number.isFinite(low) ? [low - 0.5, low + 0.5] : [0, 1];
  const y = (value) => (100 * (high - value) / (high - low)).toFixed(2);
  const upper = [], lower = [];
  for (let f = 0; f < count; f++) {
    if (!Number.isFinite(at(f, 0))) continue;
    upper.push(`${(1000 * frames.at[f]).toFixed(2)} ${y(at(f, 1))}`);
    lower.unshift(`${(1000 * frames.at[f]).toFixed(2)} ${y(at(f, 0))}`);
  }
  const path = upper.length ? `M${[...upper, ...lower].join("L")}z` : "";
  const now = 1000 * frames.at[frame];
  $("extremes").replaceChildren(canvasOf(draw("path", { d: path, class: "band" }),
    draw("line", { x1: now, x2: now, y1: 0, y2: 100, class: "now" }),
    draw("line", { x1: 0, x2: 1000, y1: 100, y2: 100, class: "axis" }), ...epochTicks()));
  $("extremes-now").textContent = isAbsent(state.large, frame) ? NO_FRAME : `${number(at(frame, 0))} … ${number(at(frame, 1))}`;
}
function neighbour(by) {
  const { channels } = layers[state.large];
  const place = channels.indexOf(state.enlarged) + by;
  if (place >= 0 && place < channels.length) enlarge(channels[place]);
}
