// Review: one candidate at a time. A candidate is registered as displayed when all its channels are on the screen;
// only then can it be decided. The next one is loaded ahead, so that a decision costs no waiting.

import { $, Refused, askName, element, get, notice, post, recipeChoice, reviewer, typing } from "./common.js";
import { load } from "./pictures.js";
import { ZOOMS, draw, painted, redraw, showCounts, showNeighbours, state } from "./screen.js";

// Displays and decisions reach the store in the order in which they happened: the gate knows one display at a time.
let chain = Promise.resolve();
const inOrder = (task) => (chain = chain.then(task, task));

// ---- what is asked of the server

// The next one that waits behind `after`, and from the start again at the end; null when none is left. One that was
// decided a moment ago may still be on its way to the store and is passed over.
async function fetchNext(after) {
  const seen = new Set();
  for (;;) {
    const { candidate } = await get("/api/review/next", { recipe: state.recipe, after, class: state.cls, order: state.order });
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

// ---- what may be pressed

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

state.order = localStorage.getItem("review-order") || "";
$("order").value = state.order;
$("order").addEventListener("change", (event) => {
  state.order = event.target.value;
  localStorage.setItem("review-order", state.order);
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
