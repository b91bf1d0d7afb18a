// One frame: its maps, its picture and what is said of it.

const RESTS = 150; // milliseconds without another frame, after which a hand that scrubs is at rest
let painting = false, again = false, resting = 0;
async function paint() {
  again = true;
  if (painting) return;
  painting = true;
  $("maps").setAttribute("aria-busy", "true");
  try {
    while (again) {
      again = false;
      await paintOnce();
    }
    $("maps").setAttribute("aria-busy", "false");
  } catch (error) {
    pause();
    fail(error);
  } finally {
    painting = false;
  }
  clearTimeout(resting);
  if (state.held) resting = setTimeout(paintOverview, RESTS); else paintOverview();
}
async function paintOnce() {
  const { layer, frame } = state, one = source;
  const { view } = state;
  const [decoded, images, found] = await Promise.all([
    Promise.all(mates(layer).map((mate) => loadMaps(one, mate, frame))),
    Promise.all(runs.map((_, run) => loadInput(one, frame, run))),
    view === "components" ? Promise.all(mates(layer).map((mate) => loadBasis(one, mate))) : null]);
  if (layer !== state.layer || one !== source || view !== state.view) return void (again = true);
  const about = layers[layer], { shape } = about, scale = $("scale").value;
  const over = liesOver(), colours = coloursNow(about, over);
  const ranges = decoded.map((each, run) => rangesOf(layers[layer + run], each, frame, scale))
    .map((each) => over ? each.map((range) => overRange(range, isSigned(about))) : each);
  const grays = over ? runs.map((_, run) => grayOf(images[run] ?? images[0], (pictures[run] ?? pictures[0]).shape)) : [];
  for (const one of tiles) {
    const { layer: mate, place, canvas, words } = one;
    const absent = (mate === null ? mates(layer) : [mate]).some((each) => isAbsent(each, frame));
    canvas.classList.toggle("empty", absent);
    if (absent) {
      clear(canvas, shape);
      markEmpty(one);
      canvas.setAttribute("aria-label", `${words} at ${inWords(frame)}: ${NO_FRAME}`);
      continue;
    }
    if (found) {
      fillComponents(canvas, decoded[mate - layer], layers[mate], found[mate - layer]);
      canvas.setAttribute("aria-label", `${words} at ${inWords(frame)}: ${found[mate - layer].words}`);
      continue;
    }
    if (mate === null) {
      const reach = fillDifference(canvas, decoded[0], decoded[1], place, shape, tables.RdBu_r);
      one.bar.hidden = true;
      one.button.querySelector(".mark").textContent = `±${number(reach)}`;
      canvas.setAttribute("aria-label", `${words} at ${inWords(frame)}, from −${number(reach)} to ${number(reach)}`);
      continue;
    }
    const range = ranges[mate - layer][place];
    if (over) fillOver(canvas, decoded[mate - layer], place, layers[mate], range, colours, grays[mate - layer]);
    else fillMap(canvas, decoded[mate - layer], place, shape, range, colours);
    canvas.setAttribute("aria-label", `${words} at ${inWords(frame)}${mark(one, decoded[mate - layer], frame, scale, range)}`);
  }
  images.forEach((image, run) => {
    if (image) fillColours(ofRun("input", run), image, pictures[run].shape, false);
  });
  describe(frame, decoded[0], colours);
  if (found && !isAbsent(layer, frame)) describeColours(found[0]);
  if (state.enlarged !== null)
    await paintEnlarged(decoded[state.large - layer], ranges[state.large - layer], frame, colours, grays[state.large - layer]);
  $("maps").dataset.frame = frame;
  if (!state.playing && !state.held) writeAddress();
  const next = frame + (state.playing ? 1 : state.held ? state.heading : 0);
  if (next !== frame && next >= 0 && next < count) { // so that it is there when it is asked for
    for (const mate of mates(layer)) loadMaps(one, mate, next).catch(() => {});
    runs.forEach((_, run) => loadInput(one, next, run).catch(() => {}));
  }
}

function inWords(frame) {
  const words = `epoch ${frames.epoch[frame]}, batch ${frames.batch[frame]}`;
  return [words, ...runs.filter(({ loss }) => loss).map(({ loss, name }) =>
    `loss ${several ? `of ${name} ` : ""}${loss[frame]}`)].join(", ");
}
const isBad = (value) => /nan|inf/.test(value);
function describe(frame, decoded, colours) {
  const parts = [["epoch ", frames.epoch[frame], ` of ${frames.epochs}`],
    ["batch ", frames.batch[frame], ` of ${frames.batches}`]];
  if (frames.loss) parts.push(["loss ", frames.loss[frame], ""]);
  $("status").replaceChildren(...parts.map(([before, value, after]) => make("span", {},
    make("i", {}, before), make("b", { className: isBad(value) ? "bad" : "" }, String(value)),
    make("i", {}, after))));
  $("slider").value = frame;
  $("slider").setAttribute("aria-valuetext", inWords(frame));
  $("track").style.setProperty("--at", count > 1 ? frame / (count - 1) : 1);
  runs.forEach((run, i) => {
    for (const [field] of fieldsOf()) if (run[field]) ofRun(`answer-${field}`, i).textContent = run[field][frame];
    sayPicture(run, i, frame);
    ofRun("input", i).setAttribute("aria-label",
      `${pictures[i]?.fixed ? "Fixed image" : "Input picture"}${several ? ` of ${run.name}` : ""} at ${inWords(frame)}`);
    if (several) tell(run, i, frame, colours);
  });

  if (runs.some(({ curve }) => curve)) $("curve-done").setAttribute("width", frames.at[frame] * 1000);
  runs.forEach(({ curve }, i) => {
    const dot = ofRun("dot", i), height = curve ? lossAt(frames.at[frame], curve) : null;
    dot.hidden = height === null;
    if (height === null) return;
    dot.style.left = `${100 * frames.at[frame]}%`;
    dot.style.top = `${100 * (1 - height)}%`;
  });
  describeScale(frame, colours);
  if (!several) $("unfinite").replaceChildren(...notFinite(state.layer, frame, colours));
}
function describeScale(frame, colours) {
  const over = liesOver(), symmetric = over ? isSigned(layers[state.layer]) : $("symmetric").checked;
  const words = source.scales[$("scale").value].split(over ? "; bar" : "\n")[0] + (symmetric ? "; symmetric around 0" : over ? "; from 0" : "") +
    (over ? ", over the input: the stronger, the more it covers" : "");
  const { quantity } = source;
  $("scale-words").textContent = `${quantity[0].toUpperCase()}${quantity.slice(1)}: ${words}.`;
  const steps = Uint8Array.from({ length: LAST + 1 }, (_, i) => i);
  fillLevels($("bar"), steps, [1, LAST + 1],
    over ? Uint32Array.from(steps, (i) => mixture(colours, symmetric)[i << 8 | MIDDLE]) : colours);
  const own = sharedRange(layers[state.layer], frame), shared = own && over ? overRange(own, symmetric) : own;
  const [low, high] = shared ?? [0, 0], ends = shared ? shared.map(number) : ["low", "high"];
  $("bar").setAttribute("aria-label", `Colour bar from ${ends[0]} to ${ends[1]}`);
  $("low").textContent = ends[0];
  $("high").textContent = ends[1];
  const zero = shared ? -low / (high - low) : symmetric ? 0.5 : -1;
  $("zero").hidden = zero < 0.2 || zero > 0.8;
  $("zero").style.left = `${100 * zero}%`;
}
const fieldsOf = () => several ? [["label", "label"]] : [["label", "label"], ["prediction", "predicted"]];
function sayPicture(run, i, frame) { // what it is, or that there is none
  const words = pictures[i]?.words ?? "", name = several && !words.endsWith("both runs") ? run.name : "";
  const unseen = pictures[i] && run.unseen?.[frame];
  ofRun("input-words", i).textContent = [name, unseen ? unseen : words].filter(Boolean).join(": ");
}
function notFinite(layer, frame, colours) {
  if (isAbsent(layer, frame)) return [make("span", { className: "muted" }, NO_FRAME)];
  const unfinite = layers[layer].unfinite?.[frame] ?? [0, 0], remark = layers[layer].remarks?.[frame];
  if (remark && !unfinite.some(Boolean)) return [make("span", { className: "muted" }, remark)];
  return ["NaN", "inf"].flatMap((word, i) => {
    if (!unfinite[i]) return [];
    const square = make("b", { "aria-hidden": "true" }, "■ ");
    square.style.color = css(colours[NAN + i]);
    return [make("span", {}, square, `${unfinite[i].toLocaleString("en")} ${word}`)];
  });
}
function tell({ loss, prediction }, i, frame, colours) { // over the maps of one of two runs
  const parts = notFinite(state.layer + i, frame, colours);
  for (const part of parts) part.className ||= "bad";
  if (prediction) parts.unshift(make("span", {}, `predicted ${prediction[frame]}`));
  if (loss) parts.unshift(make("span", { className: isBad(loss[frame]) ? "bad" : "" }, `loss ${loss[frame]}`));
  $(`facts-${i}`).replaceChildren(...parts);
  if (i === 1 && state.difference) $("facts-2").textContent = "white is 0; ± below each map are its ends";
}
function lossAt(at, { x, y }) {
  let low = 0, high = x.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle] < at - 1e-5) low = middle + 1; else high = middle;
  }
  return y[low];
}
