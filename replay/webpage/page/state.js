// What the page holds, and what the reader has chosen. All parts of the script share one scope; the
// order in which they stand is `_SCRIPTS` in template.py.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("manifest").textContent);
const LAST = 253, NAN = 254, INF = 255;
const MOST = 256; // maps that are shown unless channels are named
const KEPT = 96e6; // bytes of decoded frames that are kept
const GAINS = ["adaptive", "map", "channel"]; // scales that have a range for each map

// The images that maps are shown of: the first of each batch, or a fixed one. Each has frames and
// layers of its own. Of two runs, each has fields of its own, their layers alternate, and the ids of
// elements that tell of the second one end in "-b".
let source, frames, layers, count, runs, several, pictures;
const state = { source: 0, layer: 0, large: 0, frame: 0, playing: false, held: false, heading: 1,
  enlarged: null, difference: false, view: "maps", over: false };
const texts = new Map(); // layer's name -> what stands under "channels"
function useSource(place, view = data.sources[place].views[0]) {
  source = data.sources[place];
  source.place = place;
  ({ frames, layers } = source);
  count = frames.epoch.length; // grows in a live page
  runs = source.runs ?? [frames];
  several = runs.length > 1;
  pictures = several ? runs.map(({ input }) => input) : [source.input];
  state.source = place;
  state.view = view;
}
useSource(data.first);
state.over = source.over;
const ofRun = (id, run) => $(run ? `${id}-b` : id);
const mates = (layer) => runs.map((_, run) => layer + run);

// ------------------------------------------------------------------ small helpers

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value; else node.setAttribute(name, value);
  }
  node.append(...children); // strings become text nodes, never markup
  return node;
}
function draw(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
function number(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : "inf";
  return String(Number(value.toPrecision(3))).replaceAll("-", "−");
}
function fail(error) {
  $("wrong").textContent = error instanceof Error ? error.message : String(error);
  $("wrong").hidden = false;
}
function say(words) {
  $("live").textContent = words;
}
function icon(button, shape, words) {
  const paths = { play: "M3 1l11 7-11 7z", pause: "M3 1h4v14H3zM9 1h4v14H9z",
    back: "M12 1v14L4 8zM2 1h2v14H2z", forth: "M4 1v14l8-7zM12 1h2v14h-2z" };
  button.replaceChildren(draw("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" },
    draw("path", { d: paths[shape] })));
  button.setAttribute("aria-label", words);
  button.title = words;
}
