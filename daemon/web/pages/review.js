// Review: one candidate at a time. A candidate is registered as displayed when all its channels are on the screen;
// only then can it be decided. The next one is loaded ahead, so that a decision costs no waiting.

import { $, Refused, askName, element, figures, get, notice, post, recipeChoice, reviewer, typing } from "./common.js";
import { load, overlay, put, sharpness } from "./pictures.js";

const ZOOMS = ["near", "wide"];
const state = {
  recipe: "", cls: "", current: null, upcoming: [], ahead: null, past: [], done: new Set(),
  channel: 0, zoom: 0, outline: true, mode: "stretched", clean: false, rejecting: false,
  counts: { waiting: 0, accepted: 0, rejected: 0 }, run: 0,
};
// Displays and decisions reach the store in the order in which they happened: the gate knows one display at a time.
let chain = Promise.resolve();
const inOrder = (task) => (chain = chain.then(task, task));

// ---- what is asked of the server

// The next one that waits behind `after`, and from the start again at the end; null when none is left. One that was
// decided a moment ago may still be on its way to the store and is passed over.
async function fetchNext(after) {
  const seen = new Set();
  for (;;) {
    const { candidate } = await get("/api/review/next", { recipe: state.recipe, after, class: state.cls });
    if (!candidate || seen.has(candidate.candidate_id)) return null;
    if (!state.done.has(candidate.candidate_id)) return prepared(candidate);
    seen.add(candidate.candidate_id);
    after = candidate.candidate_id;
  }
}

// What must be on the screen before a decision: every channel about the defect, and the whole part on the chosen one.
function prepared(view) {
  const entry = { view, token: "", prior: null };
  const chosen = Math.min(state.channel, view.channels.length - 1);
  const first = view.channels.map((channel) => channel.ranges[state.mode][ZOOMS[state.zoom]]);
  first.push(view.channels[chosen].ranges[state.mode].whole);
  entry.ready = Promise.all(first.map(load));
  entry.ready.catch(() => {}); // reported when the candidate is shown
  return entry;
}

// What one key may ask for next. It waits until the decision is possible and the next candidate is loaded.
async function loadRest(entry) {
  await Promise.allSettled([chain, state.ahead && state.ahead.then((next) => next && next.ready)]);
  if (state.current !== entry) return;
  for (const channel of entry.view.channels) {
    const range = channel.ranges[state.mode];
    for (const address of [range.whole, range.background.near, range.background.whole, range.wide]) {
      await load(address).catch(() => {});
      if (state.current !== entry) return;
    }
  }
}

async function summarise() {
  const counts = await get("/api/review/summary", { recipe: state.recipe });
  for (const key of ["waiting", "accepted", "rejected"]) state.counts[key] = Number(counts[key]) || 0;
  const filter = $("class-filter");
  const names = Object.keys(counts.by_class || {}).sort();
  const known = [...filter.options].slice(1).map((option) => option.value);
  if (names.join() !== known.join()) {
    filter.replaceChildren(element("option", { value: "" }, "all"), ...names.map((name) => element("option", { value: name }, name)));
    filter.value = names.includes(state.cls) ? state.cls : "";
  }
  showCounts();
}

// ---- moving through the candidates

async function start() {
  const run = ++state.run;
  Object.assign(state, { current: null, upcoming: [], ahead: null, past: [], done: new Set(), channel: 0 });
  enable(false);
  if (!state.recipe) return;
  try {
    await summarise();
    const entry = await fetchNext("");
    if (run !== state.run) return;
    notice("");
    if (entry) await show(entry);
    else finish();
  } catch (error) {
    if (run !== state.run) return;
    fail(error);
    setTimeout(() => run === state.run && start(), 3000);
  }
}

async function show(entry) {
  state.current = entry;
  entry.token = "";
  state.clean = false;
  rejecting(false);
  enable(false);
  $("finished").hidden = true;
  $("review").classList.remove("is-finished");
  state.channel = Math.min(state.channel, entry.view.channels.length - 1);
  if (!state.ahead && !state.upcoming.length) lookAhead(entry);
  try {
    await entry.ready;
  } catch (error) {
    if (state.current === entry) notice(`${error.message} (${entry.view.candidate_id}); N goes on without deciding`);
    return;
  }
  if (state.current !== entry) return;
  await draw();
  await painted();
  if (state.current !== entry) return;
  inOrder(() => register(entry));
  showNeighbours(entry.view.defect_class);
  loadRest(entry);
}

async function register(entry) {
  if (state.current !== entry || !reviewer) return;
  try {
    entry.token = (await post("/api/review/displayed", { candidate_id: entry.view.candidate_id })).token;
    if (state.current !== entry) return;
    enable(true);
    notice("");
    if (state.pressed) {
      const milliseconds = performance.now() - state.pressed;
      state.pressed = 0;
      document.body.dataset.pace = milliseconds.toFixed(1);
      $("pace").textContent = `next ready after ${milliseconds.toFixed(0)} ms`;
    }
  } catch (error) {
    if (state.current !== entry) return;
    fail(error);
    setTimeout(() => state.current === entry && !entry.token && inOrder(() => register(entry)), 2000);
  }
}

function lookAhead(entry) {
  state.ahead = fetchNext(entry.view.candidate_id);
  state.ahead.catch(() => {}); // asked again when it is needed
}

async function advance() {
  const run = state.run;
  const waiting = state.upcoming.shift();
  if (waiting) {
    await show(waiting);
    return;
  }
  state.current = null;
  let entry = null;
  try {
    const ahead = state.ahead;
    state.ahead = null;
    entry = ahead ? await ahead.catch(() => null) : null;
    if (entry && state.done.has(entry.view.candidate_id)) entry = null;
    if (!entry) {
      await chain;
      entry = await fetchNext("");
    }
  } catch (error) {
    fail(error);
    setTimeout(() => run === state.run && !state.current && advance(), 3000);
    return;
  }
  if (run !== state.run || state.current) return;
  if (entry) await show(entry);
  else finish();
}

function decide(verb, reason = "") {
  const entry = state.current;
  if (!entry || !entry.token) {
    if (entry && !reviewer) askName().then(() => inOrder(() => register(entry)));
    return;
  }
  const body = { candidate_id: entry.view.candidate_id, verb, reason, token: entry.token };
  entry.token = "";
  state.pressed = performance.now();
  count(entry.prior && entry.prior.verb, verb);
  const before = entry.prior;
  entry.prior = { verb, reason };
  state.done.add(entry.view.candidate_id);
  state.past.push(entry);
  inOrder(async () => {
    try {
      await post("/api/review/decide", body);
    } catch (error) {
      takeBack(entry, before, error);
    }
  });
  if (state.past.length % 10 === 0) inOrder(() => summarise().catch(() => {}));
  advance();
}

// A decision that the store did not take is shown again, with the reason; nothing is pretended.
function takeBack(entry, before, error) {
  entry.prior = before;
  if (!before) state.done.delete(entry.view.candidate_id);
  state.past = state.past.filter((other) => other !== entry);
  if (state.current) state.upcoming.unshift(state.current);
  fail(new Refused(error.status, error.kind, `The last decision was not recorded: ${error.message}`));
  show(entry).then(() => summarise().catch(() => {}));
}

function undo() {
  const entry = state.past.pop();
  if (!entry) return;
  if (state.current) state.upcoming.unshift(state.current);
  show(entry);
}

function skip() {
  if (state.current) advance();
}

function finish() {
  state.current = null;
  enable(false);
  $("review").classList.add("is-finished");
  $("finished").hidden = false;
  $("review").setAttribute("aria-busy", "false");
  const { accepted, rejected } = state.counts;
  $("finished-text").textContent = accepted + rejected
    ? `${accepted} accepted, ${rejected} rejected.`
    : "There are no candidates yet; start a generation with inspectctl generate.";
  const run = state.run;
  setTimeout(async () => {
    if (run !== state.run || state.current) return;
    await summarise().catch(() => {});
    advance();
  }, 4000);
}

// ---- what is on the screen

async function draw() {
  const { view } = state.current;
  const entry = state.current;
  $("subject-class").textContent = view.defect_class;
  $("subject-id").textContent = view.candidate_id;
  const prior = state.current.prior;
  $("subject-prior").hidden = !prior;
  if (prior) $("subject-prior").textContent = `Decided before: ${prior.verb}ed${prior.reason ? ` (${prior.reason})` : ""}. A new decision replaces it.`;
  $("scores").replaceChildren(
    ...pair("severity", `${figures(view.severity)} σ`),
    ...pair("size", `${view.box.width} × ${view.box.height} px`),
    ...Object.entries(view.scores).flatMap(([name, value]) => pair(name.replaceAll("_", " "), figures(value))),
    ...pair("background", view.background_id),
  );
  await Promise.all([drawViews(entry), drawStrip(entry)]);
  if (state.current === entry) $("review").setAttribute("aria-busy", "false");
}

const pair = (name, value) => [element("dt", {}, name), element("dd", {}, value)];

function addresses(view, index) {
  const range = view.channels[index].ranges[state.mode];
  return { range, source: state.clean && range.background ? range.background : range };
}

async function drawViews(entry) {
  const { view } = entry;
  const { range, source } = addresses(view, state.channel);
  const zoom = ZOOMS[state.zoom];
  const region = view.crops[zoom];
  const whole = { x: 0, y: 0, width: view.width, height: view.height };
  const outline = state.outline && !state.clean ? view.outline : "";
  $("clean-flag").hidden = !state.clean;
  await Promise.all([
    put($("whole"), source.whole, whole, outline, { frame: region, alt: "whole part" }),
    put($("crop"), source[zoom], region, outline, { alt: "around the defect" }),
  ]);
  if (state.current !== entry) return;
  sharpness($("whole"), whole);
  const scale = sharpness($("crop"), region);
  const channel = view.channels[state.channel];
  const grey = `${range.low}–${range.high} DN shown black to white`;
  $("whole-name").textContent = view.channels.length > 1 ? `Whole part · ${channel.name}` : "Whole part";
  $("whole-facts").textContent = `${view.width} × ${view.height} px, ${view.bit_depth} bit, ${grey}`;
  $("crop-facts").textContent = `${region.width} × ${region.height} px, ${scale.toFixed(1)}×`;
}

async function drawStrip(entry) {
  const { view } = entry;
  const strip = $("strip");
  strip.hidden = view.channels.length < 2;
  $("review").classList.toggle("one-channel", view.channels.length < 2);
  if (strip.hidden) return;
  if (strip.children.length !== view.channels.length) {
    strip.replaceChildren(...view.channels.map((_, index) => {
      const tile = element("button", { type: "button", class: "tile" },
        element("div", { class: "picture" }, element("div", { class: "layer" })), element("span"));
      tile.querySelector(".picture").append(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
      tile.querySelector("svg").classList.add("overlay");
      tile.addEventListener("click", () => { state.channel = index; tile.blur(); redraw(); });
      return tile;
    }));
  }
  await Promise.all(view.channels.map(async (channel, index) => {
    const tile = strip.children[index];
    const box = tile.querySelector(".picture");
    const zoom = ZOOMS[state.zoom];
    tile.setAttribute("aria-pressed", index === state.channel);
    tile.querySelector("span").textContent = channel.name;
    await put(box, addresses(view, index).source[zoom], view.crops[zoom], state.outline && !state.clean ? view.outline : "");
    sharpness(box, view.crops[zoom]);
  }));
}

const neighbours = new Map();
async function showNeighbours(cls) {
  $("seed-class").textContent = cls;
  const key = `${state.recipe}/${cls}`;
  if (!neighbours.has(key)) {
    const asked = get("/api/review/neighbours", { recipe: state.recipe, class: cls }).then((answer) => answer.seeds);
    asked.catch(() => neighbours.delete(key));
    neighbours.set(key, asked);
  }
  let seeds = [];
  try {
    seeds = await neighbours.get(key);
  } catch {
    return; // the seeds are for comparison; their absence is no reason to stop
  }
  if (!state.current || state.current.view.defect_class !== cls) return;
  const shown = `${key}/${state.channel}/${state.mode}/${state.outline}/${seeds.length}`;
  const place = $("seeds");
  if (place.dataset.shown === shown) return;
  place.dataset.shown = shown;
  place.replaceChildren(...seeds.map((seed) => {
    const channel = seed.channels[Math.min(state.channel, seed.channels.length - 1)];
    const box = element("div", { class: "picture", title: `${seed.seed_id}, part ${seed.part_id}` }, element("div", { class: "layer" }));
    box.append(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
    box.querySelector("svg").classList.add("overlay");
    put(box, channel.ranges[state.mode].near, seed.crops.near, state.outline ? seed.outline : "").catch(() => {});
    return box;
  }));
  if (!seeds.length) place.append(element("p", { class: "dim" }, "no confirmed seeds of this class"));
}

function redraw() {
  const entry = state.current;
  if (!entry) return;
  Promise.all([drawViews(entry), drawStrip(entry)]).catch(fail);
  showNeighbours(entry.view.defect_class);
}

const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));

function enable(on) {
  for (const button of document.querySelectorAll(".verb, .reasons button")) button.disabled = !on;
  document.body.dataset.candidate = on && state.current ? state.current.view.candidate_id : "";
}

function rejecting(on) {
  state.rejecting = on;
  $("reasons").classList.toggle("armed", on);
  $("reject").setAttribute("aria-pressed", on);
}

function count(before, verb) {
  const name = { accept: "accepted", reject: "rejected" };
  state.counts[before ? name[before] : "waiting"] -= 1;
  state.counts[name[verb]] += 1;
  showCounts();
}

function showCounts() {
  const { waiting, accepted, rejected } = state.counts;
  const all = waiting + accepted + rejected;
  $("count-done").textContent = accepted + rejected;
  $("count-all").textContent = all;
  $("count-accepted").textContent = accepted;
  $("count-rejected").textContent = rejected;
  $("count-waiting").textContent = Math.max(0, waiting);
  const bar = $("progress");
  bar.setAttribute("aria-valuemax", all);
  bar.setAttribute("aria-valuenow", accepted + rejected);
  bar.querySelector(".accepted").style.width = `${all ? (100 * accepted) / all : 0}%`;
  bar.querySelector(".rejected").style.width = `${all ? (100 * rejected) / all : 0}%`;
}

function fail(error) {
  if (error.kind === "name") {
    askName().then(() => state.current && inOrder(() => register(state.current)));
    return;
  }
  notice(error.message);
}

function reject(reason) {
  if (!reason.startsWith("other")) {
    decide("reject", reason);
    return;
  }
  const dialog = $("other");
  $("other-field").value = "";
  $("other-cancel").onclick = () => dialog.close();
  dialog.querySelector("form").onsubmit = () => {
    const text = $("other-field").value.trim();
    decide("reject", text ? `other: ${text}` : "other");
  };
  dialog.showModal();
}

// ---- keys and buttons

const KEYS = {
  a: () => decide("accept"), j: () => decide("accept"),
  r: () => state.current && state.current.token && rejecting(!state.rejecting),
  k: () => state.current && state.current.token && rejecting(!state.rejecting),
  u: undo, n: skip, escape: () => rejecting(false),
  z: () => { state.zoom = (state.zoom + 1) % ZOOMS.length; redraw(); },
  m: () => { state.outline = !state.outline; redraw(); },
  c: () => { state.mode = state.mode === "full" ? "stretched" : "full"; redraw(); },
  b: () => { if (!state.clean) { state.clean = true; redraw(); } },
  arrowright: () => step(1), arrowleft: () => step(-1), " ": () => step(1),
  "?": () => $("help").showModal(),
};

function step(by) {
  if (!state.current) return;
  const channels = state.current.view.channels.length;
  state.channel = (state.channel + by + channels) % channels;
  redraw();
}

document.addEventListener("keydown", (event) => {
  if (typing(event)) return;
  const key = event.key.toLowerCase();
  const reasons = document.querySelectorAll("#reasons button");
  if (state.rejecting && /^[1-9]$/.test(key)) {
    event.preventDefault();
    if (!event.repeat && reasons[key - 1]) reject(reasons[key - 1].dataset.reason);
    return;
  }
  if (!KEYS[key]) return;
  event.preventDefault();
  // A key that is held down decides once.
  if (event.repeat && !key.startsWith("arrow")) return;
  KEYS[key]();
});
document.addEventListener("keyup", (event) => {
  if (event.key.toLowerCase() === "b" && state.clean) {
    state.clean = false;
    redraw();
  }
});
window.addEventListener("blur", () => { if (state.clean) { state.clean = false; redraw(); } });
window.addEventListener("resize", () => state.current && redraw());
$("accept").addEventListener("click", () => decide("accept"));
$("reject").addEventListener("click", () => rejecting(!state.rejecting));
for (const button of document.querySelectorAll("#reasons button")) {
  button.addEventListener("click", () => reject(button.dataset.reason));
}
$("class-filter").addEventListener("change", (event) => {
  state.cls = event.target.value;
  event.target.blur();
  start();
});

state.recipe = recipeChoice((recipe) => {
  state.recipe = recipe;
  state.cls = "";
  start();
});
if (!reviewer) await askName();
start();
