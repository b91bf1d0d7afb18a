// Keys, and what happens at first.

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target, here = target.tagName;
  if (here === "SELECT" || (here === "INPUT" && target.type === "text")) return;
  const press = here === "BUTTON" || here === "SUMMARY" || target.type === "checkbox"; // what Space belongs to
  const epochs = event.shiftKey;
  const keys = {
    " ": press ? null : toggle,
    ArrowLeft: () => { pause(); if (epochs) seekEpoch(-1); else seek(state.frame - 1); },
    ArrowRight: () => { pause(); if (epochs) seekEpoch(1); else seek(state.frame + 1); },
    PageUp: target === $("slider") ? () => seekEpoch(1) : null,
    PageDown: target === $("slider") ? () => seekEpoch(-1) : null,
    Home: () => { pause(); seek(0); },
    End: () => { pause(); seek(count - 1); },
    o: toggleOver,
    ArrowUp: state.enlarged !== null ? () => neighbour(-1) : null,
    ArrowDown: state.enlarged !== null ? () => neighbour(1) : null,
  };
  const action = keys[event.key];
  if (!action) return;
  event.preventDefault();
  if (event.repeat) hold();
  action();
});
addEventListener("keyup", release);

function openSide(open) {
  document.body.classList.toggle("side-open", open);
  $("more").setAttribute("aria-expanded", String(open));
  if (open) paintOverview();
}
function connect() {
  $("slider").addEventListener("input", () => { pause(); hold(); seek(Number($("slider").value)); });
  $("slider").addEventListener("change", release);
  $("play").addEventListener("click", toggle);
  $("play-large").addEventListener("click", toggle);
  $("back").addEventListener("click", () => { pause(); seek(state.frame - 1); });
  $("forth").addEventListener("click", () => { pause(); seek(state.frame + 1); });
  $("layer").addEventListener("change", () => chooseLayer(Number($("layer").value)));
  for (const id of ["scale", "cmap", "symmetric"]) $(id).addEventListener("change", paint);
  $("difference").addEventListener("change", () => {
    state.difference = $("difference").checked;
    lay();
    paint();
  });
  $("over").addEventListener("click", toggleOver);
  $("zoom").addEventListener("change", () => { size(); writeAddress(); });
  $("channels").addEventListener("change", onChannels);
  $("more").addEventListener("click", () => openSide(!document.body.classList.contains("side-open")));
  $("before").addEventListener("click", () => neighbour(-1));
  $("after").addEventListener("click", () => neighbour(1));
  $("close").addEventListener("click", () => $("dialog").close());
  $("dialog").addEventListener("close", () => {
    const tile = tiles.find(({ channel, layer }) => channel === state.enlarged && layer === state.large);
    state.enlarged = null;
    writeAddress();
    tile?.button.focus();
  });
  $("dialog").addEventListener("click", (event) => {
    if (event.target === $("dialog")) $("dialog").close(); // the backdrop
  });
  overTime($("curve"));
  overTime($("extremes"));
  new ResizeObserver(size).observe($("maps"));
  addEventListener("resize", size);
  addEventListener("hashchange", followAddress);
  $("side").addEventListener("scroll", () => { drawn = ""; paintOverview(); });
}
function start() {
  if (typeof DecompressionStream === "undefined")
    return fail("This browser cannot unpack the maps: Chrome or Edge 80, Firefox 113 or Safari 16.4 is needed.");
  for (const name of Object.keys(data.colours)) $("cmap").append(make("option", { value: name }, name));
  $("cmap").append(make("option", { value: "auto" }, "auto"));
  $("cmap").value = data.cmap;
  $("scale").value = data.scale;
  $("symmetric").checked = data.symmetric;
  takeColours(null);
  $("speed").value = matchMedia("(prefers-reduced-motion: reduce)").matches ? "2" : "8";
  for (const note of data.notes) $("notes").append(make("li", {}, note));
  $("notes").append(make("li", {}, `From ${data.file}${data.created ? `, recorded ${data.created}` : ""}. ` +
    "Keys: ← → frames, Shift with them epochs, Space plays, Home and End, O over the input; in an enlarged map ↑ ↓ the others."));
  $("pair").hidden = !several;
  buttons();
  icon($("back"), "back", "One frame back");
  icon($("forth"), "forth", "One frame on");
  head();
  const map = readAddress();
  connect();
  all();
  if (map === null) paint(); else enlarge(map, state.layer);
  $("recording").hidden = !data.live;
  if (data.live) poll();
}
try { start(); } catch (error) { fail(error); }
