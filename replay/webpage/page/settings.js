// What the reader chooses: the images, the layer, channels, scale and colours.

function head() {
  $("name").textContent = data.title || data.name;
  $("run-words").replaceChildren(...[...(data.title ? [data.name] : []), ...data.about].flatMap((part, i) =>
    [...(i ? [" · "] : []), make("span", {}, part)]));
}
function chooseLayer(layer) {
  state.layer = layer;
  $("wrong").hidden = true;
  tellLayer();
  lay();
  paint();
}
function onChannels() {
  const about = layers[state.layer], before = texts.get(about.name) ?? "";
  try {
    texts.set(about.name, $("channels").value);
    lay();
    $("channels").setAttribute("aria-invalid", "false");
    $("wrong").hidden = true;
  } catch (error) {
    texts.set(about.name, before);
    $("channels").setAttribute("aria-invalid", "true");
    return fail(error);
  }
  paint();
}
// Two rows: of which image, and what is shown of it. A choice in one keeps that in the other, if it can.
function laySources() {
  const one = ({ words }) => words, kind = ({ view }) => view, choices = choicesOf();
  const images = layChoices(choices, $("sources"), one, (each) => choices.find((other) =>
    one(other) === one(each) && kind(other) === state.view) ?? each);
  const views = layChoices(choices.filter((each) => one(each) === one(source)), $("views"), kind, (each) => each);
  $("sources").hidden = images < 2;
  $("views").hidden = views < 2;
}
const MANY = 4; // buttons in a row; of more one is chosen from a list
function layChoices(choices, row, name, target) {
  const names = [...new Set(choices.map(name))], now = { words: source.words, view: state.view };
  const find = (words) => target(choices.find((each) => name(each) === words));
  if (row === $("sources") && names.length > MANY) {
    const label = (words) => data.sources[find(words).place].frames.label?.[0], first = names[0];
    const list = make("select", { id: "image" }, ...names.map((words) => make("option", { value: words },
      words !== first && label(words) ? `${words}, ${label(words)}` : words)));
    list.value = name(now);
    list.addEventListener("change", () => chooseSource(find(list.value)));
    row.replaceChildren(make("label", { id: "pick-image", className: "muted" }, "image ", list));
    return names.length;
  }
  row.replaceChildren(...names.map((words) => {
    const button = make("button", { type: "button", className: "source" }, words);
    const chosen = find(words);
    button.setAttribute("aria-pressed", String(words === name(now)));
    button.dataset.source = chosen.key;
    button.addEventListener("click", () => chooseSource(chosen));
    return button;
  }));
  return names.length;
}
// Gradients have colours of their own, and what lies over the input; what the reader chose for each
// view is kept.
const coloursOf = new Map(), overOf = new Map(); // by view: [colormap, symmetric]; over the input or not
function takeColours(before) {
  const now = lookKey();
  overOf.set(state.view, state.over);
  if (before === now) return;
  if (before !== null) coloursOf.set(before, [$("cmap").value, $("symmetric").checked]);
  const own = source.colours ?? [data.cmap, data.symmetric];
  const usual = data.cmap === "gray" ? "auto" : data.cmap;
  const [cmap, symmetric] = coloursOf.get(now) ?? (state.over ? [usual, own[1]] : own);
  $("cmap").value = cmap;
  $("symmetric").checked = symmetric;
}
// Shows other images, at the time that was shown, in the layer of the same name.
function chooseSource({ place, view }) {
  if ((place === state.source && view === state.view) || !data.sources[place].frames.epoch.length) return;
  pause();
  const { name } = layers[state.layer], at = [frames.epoch[state.frame], frames.batch[state.frame]];
  const before = lookKey();
  useSource(place, view);
  state.over = overOf.get(view) ?? source.over;
  takeColours(before);
  state.layer = findLayer(name);
  state.frame = frameAt(...at);
  all();
  paint();
}
function frameAt(epoch, batch) { // the frame there, or the last one before it
  let found = 0;
  for (let i = 0; i < count; i++)
    if (frames.epoch[i] < epoch || (frames.epoch[i] === epoch && frames.batch[i] <= batch)) found = i;
  return found;
}
function all() { // all that depends on the images
  drawn = "";
  laySources();
  layLayers();
  axes();
  lay();
}
