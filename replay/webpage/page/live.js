// A page of a run that goes on: frames are added at the end, and whoever is at the last one follows.

async function grow(one) {
  const { frames: known } = one, before = known.epoch.length;
  const more = await (await fetch(`frames?source=${one.place}&since=${before}`)).json();
  const added = more.epoch.length, here = one === source;
  const last = here && state.frame === before - 1 && !state.playing;
  for (const [name, none] of [["epoch"], ["batch"], ["loss", "–"], ["label", "–"], ["prediction", "–"], ["unseen", ""]]) {
    if (!known[name] && !more[name]) continue;
    known[name] = [...(known[name] ?? Array(before).fill(none)), ...(more[name] ?? Array(added).fill(none))];
  }
  for (const name of ["epochs", "batches", "breaks", "ends", "curve", "at"]) known[name] = more[name];
  if (!here) return;
  count = known.epoch.length;
  axes();
  await (last ? seek(count - 1, false) : paint());
}
let reached = true;
async function poll() {
  let wait = 500;
  const began = performance.now();
  try {
    const answer = await fetch("state");
    const now = await answer.json();
    if (!answer.ok) throw new Error(now.error);
    const there = (one) => one.layers.map(({ name }) => name).join("\n");
    if (now.run !== data.run || now.sources.length !== data.sources.length
      || now.sources.some(({ layers }, i) => layers.join("\n") !== there(data.sources[i])))
      return location.reload();
    for (const [place, one] of data.sources.entries()) {
      one.place = place;
      if (now.sources[place].count > one.frames.epoch.length) await grow(one);
    }
    $("recording").textContent = now.closed ? "recording ended" : "recording";
    $("recording").classList.toggle("on", !now.closed);
    if (!reached) $("wrong").hidden = true;
    reached = true;
    wait = Math.min(1500, Math.max(wait, 3 * (performance.now() - began))); // most of a core is left
  } catch (error) {
    fail(error instanceof TypeError ? "The server does not answer; is “replay watch” still running?" : error);
    $("recording").textContent = "no connection";
    $("recording").classList.remove("on");
    reached = false;
    wait = 2000;
  }
  setTimeout(poll, wait);
}
