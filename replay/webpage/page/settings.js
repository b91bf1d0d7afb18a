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
function laySources() {
  $("sources").hidden = data.sources.length < 2;
  $("sources").replaceChildren(...data.sources.map(({ words }, place) => {
    const button = make("button", { type: "button", className: "source" }, words);
    button.setAttribute("aria-pressed", String(place === state.source));
    button.dataset.source = data.sources[place].key;
    button.addEventListener("click", () => chooseSource(place));
    return button;
  }));
}
// Shows other images, at the time that was shown, in the layer of the same name.
function chooseSource(place) {
  if (place === state.source || !data.sources[place].frames.epoch.length) return;
  pause();
  const { name } = layers[state.layer], at = [frames.epoch[state.frame], frames.batch[state.frame]];
  useSource(place);
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
