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
  const one = ({ words }) => words, kind = ({ view }) => view;
  const images = layChoices($("sources"), one, (each) => data.sources.find((other) =>
    one(other) === one(each) && kind(other) === kind(source)) ?? each);
  const views = layChoices($("views"), kind, (each) => each, (each) => one(each) === one(source));
  $("sources").hidden = images < 2;
  $("views").hidden = views < 2;
}
function layChoices(row, name, target, among = () => true) {
  const names = [...new Set(data.sources.filter(among).map(name))];
  row.replaceChildren(...names.map((words) => {
    const button = make("button", { type: "button", className: "source" }, words);
    const chosen = target(data.sources.filter(among).find((each) => name(each) === words));
    button.setAttribute("aria-pressed", String(words === name(source)));
    button.dataset.source = chosen.key;
    button.addEventListener("click", () => chooseSource(data.sources.indexOf(chosen)));
    return button;
  }));
  return names.length;
}
// Gradients have colours of their own; what the reader chose for each view is kept.
const coloursOf = new Map(); // view -> [colormap, symmetric]
function takeColours(before) {
  if (before.view === source.view) return;
  coloursOf.set(before.view, [$("cmap").value, $("symmetric").checked]);
  const [cmap, symmetric] = coloursOf.get(source.view) ?? source.colours ?? [data.cmap, data.symmetric];
  $("cmap").value = cmap;
  $("symmetric").checked = symmetric;
}
// Shows other images, at the time that was shown, in the layer of the same name.
function chooseSource(place) {
  if (place === state.source || !data.sources[place].frames.epoch.length) return;
  pause();
  const { name } = layers[state.layer], at = [frames.epoch[state.frame], frames.batch[state.frame]];
  const before = source;
  useSource(place);
  takeColours(before);
  const same = layers.findIndex((about) => about.name === name);
  state.layer = same < 0 ? 0 : same;
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
