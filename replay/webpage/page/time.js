// From frame to frame: seeking, playing, and the plots over time.

function seek(frame, aloud = true) {
  frame = Math.min(Math.max(frame, 0), count - 1);
  if (frame !== state.frame) {
    state.heading = Math.sign(frame - state.frame);
    state.frame = frame;
    if (aloud && !state.playing && document.activeElement !== $("slider")) say(inWords(frame));
  }
  return paint();
}
const nearest = (at) => {
  let best = 0;
  for (let i = 1; i < count; i++)
    if (Math.abs(frames.at[i] - at) < Math.abs(frames.at[best] - at)) best = i;
  return best;
};
function seekEpoch(by) {
  const now = frames.epoch[state.frame];
  let frame = state.frame;
  if (by > 0) {
    while (frame < count - 1 && frames.epoch[frame] === now) frame++;
  } else {
    while (frame > 0 && frames.epoch[frame] === now) frame--;
    while (frame > 0 && frames.epoch[frame - 1] === frames.epoch[frame]) frame--;
  }
  seek(frame);
}

// While a hand scrubs, nothing but the maps follows it: browsers take long over an address, and allow
// it a hundred times in half a minute.
function hold() {
  state.held = true;
}
function release() {
  if (!state.held) return;
  state.held = false;
  writeAddress();
  paintOverview();
}

// ------------------------------------------------------------------ playing

let due = 0;
function buttons() {
  for (const id of ["play", "play-large"])
    icon($(id), state.playing ? "pause" : "play", state.playing ? "Pause" : "Play");
}
async function play() {
  if (state.playing || count < 2) return;
  state.playing = true;
  buttons();
  if (state.frame === count - 1) await seek(0);
  due = performance.now();
  step();
}
function step() {
  if (!state.playing) return;
  due = Math.max(due + 1000 / Number($("speed").value), performance.now());
  setTimeout(async () => {
    if (!state.playing) return;
    await seek(state.frame + 1);
    if (state.frame === count - 1) pause(); else step();
  }, due - performance.now());
}
function pause() {
  if (!state.playing) return;
  state.playing = false;
  buttons();
  writeAddress();
  say(`paused at ${inWords(state.frame)}`);
}
const toggle = () => state.playing ? pause() : play();

// ------------------------------------------------------------------ plots over time

function overTime(plot) { // pointing seeks; the slider is there for the keyboard
  const go = (event) => {
    const box = plot.getBoundingClientRect();
    pause();
    seek(nearest((event.clientX - box.left) / box.width));
  };
  plot.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    plot.setPointerCapture(event.pointerId);
    go(event);
  });
  plot.addEventListener("pointermove", (event) => {
    if (!plot.hasPointerCapture(event.pointerId)) return;
    hold();
    go(event);
  });
  plot.addEventListener("lostpointercapture", release);
}
const canvasOf = (...children) => draw("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none",
  "aria-hidden": "true" }, ...children);
function line(x, y) {
  let path = "", open = false;
  for (let i = 0; i < x.length; i++) {
    if (y[i] === null || !Number.isFinite(y[i])) { open = false; continue; }
    path += `${open ? "L" : "M"}${(1000 * x[i]).toFixed(2)} ${(100 - 100 * y[i]).toFixed(2)}`;
    if (!open && (i + 1 === x.length || y[i + 1] === null)) path += "h1";
    open = true;
  }
  return path;
}
const epochTicks = () => frames.breaks.length > 60 ? [] : frames.breaks.map((x) =>
  draw("line", { x1: 1000 * x, x2: 1000 * x, y1: 100, y2: 104, class: "axis" }));
function drawCurve() {
  const { curve } = runs.find((run) => run.curve) ?? {};
  $("loss").hidden = !curve;
  if (!curve) return;
  const paths = (kind) => runs.map((run, i) => run.curve && draw("path",
    { d: line(run.curve.x, run.curve.y), class: `${kind}${i ? " second" : ""}` })).filter(Boolean);
  const done = draw("g", { "clip-path": "url(#clip)" }, ...paths("done"));
  const clip = draw("clipPath", { id: "clip" },
    draw("rect", { id: "curve-done", x: 0, y: -10, width: 0, height: 120 }));
  $("curve").querySelector("svg")?.remove();
  $("curve").prepend(canvasOf(clip, draw("line", { x1: 0, x2: 1000, y1: 100, y2: 100, class: "axis" }),
    ...epochTicks(), ...paths("ahead"), done));
  $("loss-ends").textContent = curve.ends;
  [$("first").textContent, $("last").textContent] = frames.ends;
  $("unit").textContent = frames.breaks.length > 0 ? "epoch" : "batch";
}

function axes() { // all that depends on how many frames there are
  runs.forEach((run, i) => {
    const fields = fieldsOf();
    ofRun("picture", i).hidden = !pictures[i]
      && (!fields.some(([field]) => run[field]) || (i > 0 && pictures[0] !== null));
    ofRun("input", i).hidden = !pictures[i];
    sayPicture(run, i, state.frame);
    const terms = fields.filter(([field]) => run[field]).flatMap(([field, word]) =>
      [make("dt", {}, word), make("dd", { id: `answer-${field}${i ? "-b" : ""}` })]);
    ofRun("answers", i).replaceChildren(...terms);
    ofRun("answers", i).hidden = !terms.length;
  });
  if (!several) $("picture-b").hidden = true;
  $("about").classList.toggle("two", pictures.filter(Boolean).length > 1);
  $("slider").max = count - 1;
  $("slider").disabled = count < 2;
  for (const id of ["play", "play-large", "back", "forth"]) $(id).disabled = count < 2;
  for (const gap of $("track").querySelectorAll("span")) gap.remove();
  if (frames.breaks.length <= 100) {
    for (let i = 1; i < count; i++) {
      if (frames.epoch[i] === frames.epoch[i - 1]) continue;
      const gap = make("span");
      gap.style.left = `calc(9px + (100% - 18px) * ${(i - 0.5) / (count - 1)})`;
      $("track").append(gap);
    }
  }
  drawCurve();
}
