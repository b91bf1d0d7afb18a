// What is shown, in the part of the address behind the #, so that a link shows it again.

let written = null;
function writeAddress() {
  const about = layers[state.layer], said = new URLSearchParams();
  const key = chosenKey();
  if (data.sources.length > 1 || key !== choicesOf()[0].key) said.set("image", key);
  said.set("layer", about.name);
  said.set("frame", `${frames.epoch[state.frame]}.${frames.batch[state.frame]}`);
  const channels = (texts.get(about.name) ?? "").replace(/\s/g, "");
  if (channels) said.set("channels", channels);
  said.set("scale", $("scale").value);
  said.set("colours", $("cmap").value);
  if (state.over !== source.over) said.set("over", state.over ? "1" : "0");
  if ($("symmetric").checked) said.set("symmetric", "1");
  if (several && state.difference) said.set("difference", "1");
  if ($("zoom").value !== "0") said.set("zoom", $("zoom").value);
  if (state.enlarged !== null) said.set("map", String(state.enlarged));
  if (data.live && state.frame === count - 1) said.delete("frame"); // it follows the run
  const text = `#${said.toString().replaceAll("%2C", ",")}`;
  if (text === written) return;
  written = text;
  try {
    history.replaceState(null, "", text);
  } catch { /* too often, or not allowed where the page is shown */ }
}
// Takes over what the address says, as far as it is there; gives which map is enlarged.
function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const choice = choicesOf().find(({ key }) => key === said.get("image"));
  const before = lookKey();
  if (choice && data.sources[choice.place].frames.epoch.length) useSource(choice.place, choice.view);
  state.over = said.has("over") ? said.get("over") === "1" : source.over;
  takeColours(before);
  state.layer = findLayer(said.get("layer"));
  for (const [name, id] of [["scale", "scale"], ["colours", "cmap"], ["zoom", "zoom"]])
    if ([...$(id).options].some(({ value }) => value === said.get(name))) $(id).value = said.get(name);
  if (said.has("symmetric")) $("symmetric").checked = said.get("symmetric") === "1";
  state.difference = $("difference").checked = several && said.get("difference") === "1";
  const about = layers[state.layer];
  try {
    if (said.get("channels") && readChannels(said.get("channels"), about)) texts.set(about.name, said.get("channels"));
  } catch (error) {
    fail(error);
  }
  const at = /^(\d+)\.(\d+)$/.exec(said.get("frame") ?? "");
  state.frame = at ? frameAt(Number(at[1]), Number(at[2])) : count - 1;
  written = location.hash;
  const map = Number(said.get("map") ?? NaN);
  return about.channels.includes(map) && !inColours() ? map : null;
}
function followAddress() {
  if (location.hash === written) return;
  if ($("dialog").open) $("dialog").close();
  const map = readAddress();
  all();
  if (map === null) paint(); else enlarge(map, state.layer);
}
