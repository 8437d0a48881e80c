// Seeds: a person looks at each proposal on every channel, corrects its mask and class, confirms or refuses it, and says
// what else the part shows. Beside it stands what the set still lacks.

import { $, askName, element, get, notice, post, recipeChoice, svg, typing } from "./common.js";
import { begin, beginChange, easel, endChange, exported, filled, grow, move, place, redo, replace, show, stroke, undo, wholeAbout, zoom } from "./easel.js";
import { address, fit, outlines } from "./frame.js";
import { showLacks } from "./lacks.js";
import { put } from "./pictures.js";
import { mapOf, showMap } from "./wand.js";

const canvas = $("mask");
const heat = $("heat");
const state = {
  recipe: "", shown: "proposed", seeds: [], classes: [], index: 0, channel: 0, cls: "", tool: "brush", width: 5, reach: 50,
  also: false, kept: null, wanded: null, visible: true, heated: false, run: 0,
};

async function start(keep = 0) {
  $("seeds").setAttribute("aria-busy", "true");
  try {
    const answer = await get("/api/seeds", { recipe: state.recipe, state: state.shown });
    Object.assign(state, { seeds: answer.seeds, classes: answer.classes });
    notice(answer.broken.length ? `${answer.broken.length} seeds can't be shown: ${answer.broken[0].message}` : "");
  } catch (error) {
    notice(error.message);
    setTimeout(start, 3000);
    return;
  }
  rail();
  select(Math.min(keep, state.seeds.length - 1));
  $("seeds").setAttribute("aria-busy", "false");
  showLacks($("lacks"), state.recipe);
}

const current = () => state.seeds[state.index];
const open = () => state.shown !== "refused" && Boolean(current());

function rail() {
  $("rail").replaceChildren(...state.seeds.map((seed, index) => {
    const box = element("div", { class: "picture" }, element("div", { class: "layer" }));
    box.append(svg("svg", { class: "overlay" }));
    put(box, seed.channels[0].ranges.stretched.near, seed.crops.near, seed.outline).catch(() => {});
    const tile = element("button", { type: "button", class: "tile" }, box, element("span", {}, seed.defect_class));
    tile.addEventListener("click", () => { tile.blur(); select(index); });
    return tile;
  }));
  if (!state.seeds.length) $("rail").append(element("p", { class: "empty" }, `No ${state.shown} seeds.`));
}

async function select(index) {
  state.index = Math.max(0, index);
  const seed = current();
  const run = ++state.run;
  Object.assign(state, { also: false, wanded: null });
  for (const id of ["tools", "verbs"]) $(id).hidden = !open();
  for (const id of ["canvas-box", "class-block", "hint"]) $(id).hidden = !seed;
  enable(false);
  document.body.dataset.seed = "";
  [...$("rail").querySelectorAll(".tile")].forEach((tile, at) => tile.setAttribute("aria-pressed", at === state.index));
  $("seed-note").hidden = !seed || state.shown === "proposed";
  if (!seed) {
    empty();
    return;
  }
  const why = seed.reason ? `: ${seed.reason}` : "";
  $("seed-note").textContent = seed.confirmed_by ? `${seed.state} by ${seed.confirmed_by}${why}` : seed.state;
  Object.assign(state, { cls: seed.defect_class, channel: Math.min(state.channel, seed.channels.length - 1) });
  $("seed-name").textContent = `Part ${seed.part_id}`;
  begin(seed.width, seed.height, filled(seed.outline, seed.width, seed.height), seed.crops.edit);
  if (state.kept && state.kept.seed === seed.seed_id) replace(state.kept.mask);
  state.kept = null;
  canvas.hidden = !open();
  words();
  choices();
  await redraw();
  if (run !== state.run) return;
  enable(open());
  document.body.dataset.seed = seed.seed_id;
  $("rail").children[state.index]?.scrollIntoView({ block: "nearest" });
}

function empty() {
  $("question").textContent = state.shown === "proposed" ? "Nothing waits" : `Nothing is ${state.shown}`;
  $("seed-name").textContent = state.shown === "proposed" ? "Nothing waits for confirmation" : "";
  $("seed-facts").textContent = "";
  $("canvas-box").querySelector(".layer").replaceChildren();
  $("canvas-box").querySelector("svg.overlay").replaceChildren();
  begin(1, 1, new Uint8Array(1), { x: 0, y: 0, width: 1, height: 1 });
  heat.width = heat.height = 1;
  for (const id of ["found", "part-block"]) $(id).hidden = true;
  $("classes").replaceChildren();
  $("channels").replaceChildren();
}

function enable(on) {
  for (const id of ["confirm", "refuse", "also"]) $(id).disabled = !on;
}

function words() {
  const confirmed = state.shown === "confirmed";
  $("question").textContent = state.also ? "What else is on it?" : confirmed ? "Is the mask right?" : "Is this a defect?";
  $("hint").textContent = state.also
    ? "Draw the other defect, choose its class and add it. Blue is what is marked already."
    : "The generator learns from what you confirm: check the mask, then the class.";
  $("confirm-text").textContent = state.also ? "Add" : confirmed ? "Correct" : "Confirm";
  $("refuse-text").textContent = confirmed ? "Take back" : "Refuse";
  $("also-text").textContent = state.also ? "Back to the first" : "Also on this part";
  $("seeds").classList.toggle("is-also", state.also);
}

// ---- what is looked at

async function redraw() {
  const seed = current();
  if (!seed) return;
  const { view } = easel;
  const channel = seed.channels[state.channel];
  const box = $("canvas-box");
  fit(box, view);
  drawHeat();
  await put(box, address(seed, channel, view), view, open() ? "" : seed.outline, { alt: "region about the defect" });
  if (current() !== seed) return;
  outlines(box, seed, view);
  box.classList.toggle("sharp", box.clientWidth / view.width >= 2);
  const { low, high } = channel.ranges.stretched;
  const use = seed.split === "held-out" ? "held out: measures models, is never learned from" : "learned from";
  const whose = seed.proposed_by ? `, proposed by ${seed.proposed_by}` : "";
  $("seed-facts").textContent = `${view.width} × ${view.height} px, ${channel.name}, ${low}–${high} DN shown black to white, ${use}${whose}`;
  [...$("channels").children].forEach((tile, index) => {
    tile.setAttribute("aria-pressed", index === state.channel);
    const picture = tile.querySelector(".picture");
    put(picture, address(seed, seed.channels[index], view), view, "").catch(() => {});
  });
  [...$("classes").children].forEach((button) => button.setAttribute("aria-checked", button.dataset.name === state.cls));
}

function choices() {
  const seed = current();
  $("classes").replaceChildren(...state.classes.map((name, index) => {
    const button = element("button", { type: "button", role: "radio", "data-name": name }, element("kbd", {}, index + 1), name);
    button.disabled = !open();
    button.addEventListener("click", () => { state.cls = name; button.blur(); redraw(); });
    return button;
  }));
  $("channels").replaceChildren(...seed.channels.map((channel, index) => {
    const box = element("div", { class: "picture" }, element("div", { class: "layer" }));
    box.append(svg("svg", { class: "overlay" }));
    const tile = element("button", { type: "button", class: "tile" }, box, element("span", {}, channel.name));
    tile.addEventListener("click", () => { state.channel = index; tile.blur(); redraw(); });
    return tile;
  }));
  $("found").hidden = !open() || !seed.regions.length;
  $("regions").replaceChildren(...seed.regions.map((region) => {
    const called = region.suggested_class || region.group || "region";
    const lights = region.channels.length ? ` on ${region.channels.join(", ")}` : "";
    const button = element("button", { type: "button", title: `Keep this region alone${lights}` }, called, element("span", { class: "dim" }, `${region.area_px} px`));
    button.addEventListener("click", () => { button.blur(); only(region); });
    return button;
  }));
  $("part-block").hidden = !seed.siblings.length;
  $("siblings").replaceChildren(...seed.siblings.map((one) => element("li", {}, one.defect_class, element("span", { class: "dim" }, one.seed_id))));
}

// Of what was proposed, this region alone: the others are other defects, or none.
function only(region) {
  const seed = current();
  const proposed = filled(seed.outline, seed.width, seed.height);
  const kept = new Uint8Array(proposed.length);
  const { box } = region;
  for (let y = box.y; y < box.y + box.height; y += 1) {
    const from = y * seed.width + box.x;
    kept.set(proposed.subarray(from, from + box.width), from);
  }
  replace(kept);
  if (region.suggested_class && state.classes.includes(region.suggested_class)) state.cls = region.suggested_class;
  redraw();
}

// ---- the anomaly: what the wand follows
const anomalyMap = () => mapOf(current(), state.recipe, easel.view);

async function drawHeat() {
  heat.hidden = !state.heated;
  const seed = current();
  if (state.heated && seed) await showMap(heat, anomalyMap(), () => current() === seed);
}

async function wand(point, value) {
  try {
    const seed = current();
    const map = await anomalyMap();
    if (current() !== seed) return;
    state.wanded = { point, value };
    const count = grow(map, point, state.reach / 100, value);
    document.body.dataset.wand = `${map.kind} ${count}`;
  } catch (error) {
    notice(error.message);
  }
}

// ---- the pointer

let last = null;
let held = null;
canvas.addEventListener("pointerdown", (event) => {
  if (event.shiftKey || event.button === 1) {
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    held = { x: event.clientX, y: event.clientY, view: { ...easel.view } };
    return;
  }
  if (!open() || event.button !== 0) return;
  if (state.tool === "wand") {
    wand(place(event), event.altKey ? 0 : 1);
    return;
  }
  canvas.setPointerCapture(event.pointerId);
  beginChange();
  state.wanded = null;
  last = place(event);
  stroke(last, last, state.width, state.tool === "brush" ? 1 : 0);
});
canvas.addEventListener("pointermove", (event) => {
  if (held) {
    const box = canvas.getBoundingClientRect();
    const { view } = held;
    show({ ...view, x: view.x - Math.round(((event.clientX - held.x) * view.width) / box.width), y: view.y - Math.round(((event.clientY - held.y) * view.height) / box.height) });
    redraw();
    return;
  }
  if (!last) return;
  const next = place(event);
  stroke(last, next, state.width, state.tool === "brush" ? 1 : 0);
  last = next;
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, () => {
    if (last) endChange();
    last = held = null;
  });
}
$("canvas-box").addEventListener("wheel", (event) => {
  if (!current()) return;
  event.preventDefault();
  if (zoom(Math.exp(Math.sign(event.deltaY) * 0.22), place(event))) redraw();
}, { passive: false });

const middle = () => ({ x: easel.view.x + easel.view.width / 2, y: easel.view.y + easel.view.height / 2 });

function whole() {
  const full = wholeAbout(middle());
  show(easel.view.width === full.width && easel.view.height === full.height ? current().crops.edit : full);
  redraw();
}

// ---- decisions

async function settle(path, body) {
  const seed = current();
  if (!seed || $("confirm").disabled) return false;
  enable(false);
  try {
    await post(path, { recipe: state.recipe, seed_id: seed.seed_id, ...body });
  } catch (error) {
    if (error.kind === "name") await askName();
    else notice(error.message);
    enable(true);
    return false;
  }
  notice("");
  return true;
}

async function confirm() {
  const drawn = exported();
  if (!drawn) {
    notice("The mask is empty: draw the defect, or refuse the proposal.");
    return;
  }
  if (state.also) {
    if (!(await settle("/api/seeds/also", { defect_class: state.cls, ...drawn }))) return;
    await start(state.index);
    return;
  }
  if (await settle("/api/seeds/confirm", { defect_class: state.cls, ...(easel.changed ? drawn : {}) })) start(state.index);
}

async function refuse() {
  if (state.also) return;
  if (!(await settle("/api/seeds/refuse", { reason: $("why").value.trim() || "not a defect" }))) return;
  $("why").value = "";
  start(state.index);
}

// Another defect of the same picture: an empty mask over the same part, until it is added or given up.
function also() {
  const seed = current();
  if (!open() || $("also").disabled) return;
  state.also = !state.also;
  const { view } = easel;
  if (state.also) {
    // What was drawn of the first one waits until it is looked at again.
    state.kept = easel.changed ? { seed: seed.seed_id, mask: easel.mask } : null;
    begin(seed.width, seed.height, new Uint8Array(seed.width * seed.height), view);
  } else {
    begin(seed.width, seed.height, filled(seed.outline, seed.width, seed.height), view);
    if (state.kept) replace(state.kept.mask);
    state.kept = null;
  }
  state.cls = seed.defect_class;
  words();
  $("refuse").disabled = state.also;
  const own = { seed_id: seed.seed_id, defect_class: seed.defect_class, outline: seed.outline };
  seed.siblings = seed.siblings.filter((one) => one.seed_id !== seed.seed_id).concat(state.also ? [own] : []);
  redraw();
}

// ---- tools and keys

function tool(name) {
  state.tool = name;
  for (const id of ["brush", "eraser", "wand"]) $(id).setAttribute("aria-pressed", id === name);
  $("width-row").hidden = name === "wand";
  $("reach-row").hidden = name !== "wand";
  if (name === "wand" && current()) anomalyMap().catch((error) => notice(error.message));
}

function width(value) {
  state.width = Math.min(61, Math.max(1, value));
  $("width").value = state.width;
  $("width-out").textContent = `${state.width} px`;
}

// The last touch of the wand follows its reach.
function reach(value) {
  state.reach = Math.min(95, Math.max(5, value));
  $("reach").value = state.reach;
  $("reach-out").textContent = `${state.reach} %`;
  if (state.wanded && undo()) wand(state.wanded.point, state.wanded.value);
}

function toggle(id, value) {
  $(id).setAttribute("aria-pressed", value);
  return value;
}

const finer = () => (state.tool === "wand" ? reach(state.reach + 5) : width(state.width - 2));
const wider = () => (state.tool === "wand" ? reach(state.reach - 5) : width(state.width + 2));
const shift = (event, dx, dy, otherwise) => {
  if (event.shiftKey && move(dx * easel.view.width / 4, dy * easel.view.height / 4)) redraw();
  else if (!event.shiftKey) otherwise();
};

const KEYS = {
  d: () => tool("brush"), e: () => tool("eraser"), w: () => tool("wand"),
  u: () => { state.wanded = null; undo(); }, y: () => { state.wanded = null; redo(); }, enter: confirm, x: refuse, p: also,
  o: () => replace(state.also ? new Uint8Array(easel.mask.length) : filled(current().outline, easel.width, easel.height)),
  m: () => { state.visible = toggle("visible", !state.visible); canvas.style.opacity = state.visible ? "" : "0"; },
  a: () => { state.heated = toggle("anomaly", !state.heated); if (!state.heated) notice(""); drawHeat(); },
  "[": finer, "]": wider, "+": () => zoom(0.8, middle()) && redraw(), "=": () => zoom(0.8, middle()) && redraw(), "-": () => zoom(1.25, middle()) && redraw(), 0: whole,
  arrowdown: (event) => shift(event, 0, 1, () => select(Math.min(state.seeds.length - 1, state.index + 1))),
  arrowup: (event) => shift(event, 0, -1, () => select(state.index - 1)),
  arrowright: (event) => shift(event, 1, 0, () => turn(1)), arrowleft: (event) => shift(event, -1, 0, () => turn(-1)),
};

function turn(by) {
  const channels = current().channels.length;
  state.channel = (state.channel + by + channels) % channels;
  redraw();
}

document.addEventListener("keydown", (event) => {
  if (typing(event) || !current()) return;
  const key = event.key.toLowerCase();
  if (open() && /^[1-9]$/.test(key) && state.classes[key - 1]) {
    state.cls = state.classes[key - 1];
    redraw();
  } else if (KEYS[key] && !(event.repeat && ["enter", "x", "p"].includes(key))) {
    event.preventDefault();
    KEYS[key](event);
  }
});
// Also when a notice takes room away.
new ResizeObserver(() => current() && fit($("canvas-box"), easel.view)).observe($("canvas-box").parentElement);
for (const name of ["brush", "eraser", "wand"]) $(name).addEventListener("click", () => { $(name).blur(); tool(name); });
$("unstroke").addEventListener("click", KEYS.u);
$("restroke").addEventListener("click", KEYS.y);
$("original").addEventListener("click", KEYS.o);
$("anomaly").addEventListener("click", KEYS.a);
$("visible").addEventListener("click", KEYS.m);
$("width").addEventListener("input", (event) => { width(Number(event.target.value)); event.target.blur(); });
$("reach").addEventListener("input", (event) => { reach(Number(event.target.value)); event.target.blur(); });
$("confirm").addEventListener("click", confirm);
$("refuse").addEventListener("click", refuse);
$("also").addEventListener("click", () => { $("also").blur(); also(); });
$("why").addEventListener("keydown", (event) => { if (event.key === "Enter") { event.target.blur(); refuse(); } });
$("state").addEventListener("change", (event) => { state.shown = event.target.value; event.target.blur(); start(); });
state.recipe = recipeChoice((recipe) => { state.recipe = recipe; start(); });
if (state.recipe) start();
