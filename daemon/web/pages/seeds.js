// Seeds: a person looks at each proposal, corrects its mask and class, and confirms or refuses it.

import { $, askName, element, get, notice, post, recipeChoice, svg, typing } from "./common.js";
import { overlay, put } from "./pictures.js";

const canvas = $("mask");
const pen = canvas.getContext("2d", { willReadFrequently: true });
const COLOUR = "rgb(255 196 60)";
const state = { recipe: "", shown: "proposed", seeds: [], classes: [], index: 0, channel: 0, cls: "", erase: false, width: 5, undo: [], drawn: false, visible: true };

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
}

const current = () => state.seeds[state.index];

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
  const open = Boolean(seed) && state.shown === "proposed";
  for (const id of ["tools", "verbs"]) $(id).hidden = !open;
  $("confirm").disabled = $("refuse").disabled = true;
  document.body.dataset.seed = "";
  [...$("rail").querySelectorAll(".tile")].forEach((tile, at) => tile.setAttribute("aria-pressed", at === state.index));
  $("seed-note").hidden = open || !seed;
  if (!seed) {
    $("seed-name").textContent = state.shown === "proposed" ? "Nothing waits for confirmation" : "";
    $("seed-facts").textContent = "";
    $("canvas-box").querySelector(".layer").replaceChildren();
    overlay($("canvas-box"), { x: 0, y: 0, width: 1, height: 1 }, "");
    canvas.width = canvas.height = 1;
    $("classes").replaceChildren();
    $("channels").replaceChildren();
    return;
  }
  const why = seed.reason ? `: ${seed.reason}` : "";
  $("seed-note").textContent = seed.confirmed_by ? `${seed.state} by ${seed.confirmed_by}${why}` : seed.state;
  Object.assign(state, { cls: seed.defect_class, undo: [], drawn: false, channel: Math.min(state.channel, seed.channels.length - 1) });
  $("seed-name").textContent = `Part ${seed.part_id}`;
  choices();
  await redraw();
  if (current() !== seed) return;
  proposed(seed);
  $("confirm").disabled = $("refuse").disabled = !open;
  document.body.dataset.seed = seed.seed_id;
  $("rail").children[state.index]?.scrollIntoView({ block: "nearest" });
}

async function redraw() {
  const seed = current();
  if (!seed) return;
  const region = seed.crops.edit;
  const range = seed.channels[state.channel].ranges.stretched;
  const box = $("canvas-box");
  fit(box, region);
  await put(box, range.edit, region, open() ? "" : seed.outline, { alt: "region about the defect" });
  box.classList.add("sharp");
  $("seed-facts").textContent = `${region.width} × ${region.height} px about it, ${seed.channels[state.channel].name}, ${range.low}–${range.high} DN shown black to white, ${seed.split === "held-out" ? "held out: measures models, is never learned from" : "learned from"}`;
  [...$("channels").children].forEach((button, at) => button.setAttribute("aria-pressed", at === state.channel));
  [...$("classes").children].forEach((button) => button.setAttribute("aria-checked", button.dataset.name === state.cls));
}

// The box has the region's own shape, so that the canvas, the picture and the pointer agree to the pixel.
function fit(box, region) {
  const room = box.parentElement;
  const scale = Math.min(room.clientWidth / region.width, (room.clientHeight - 40) / region.height);
  box.style.width = `${Math.floor(region.width * scale)}px`;
  box.style.height = `${Math.floor(region.height * scale)}px`;
}

const open = () => state.shown === "proposed";

function choices() {
  const seed = current();
  $("classes").replaceChildren(...state.classes.map((name, index) => {
    const button = element("button", { type: "button", role: "radio", "data-name": name }, element("kbd", {}, index + 1), name);
    button.disabled = !open();
    button.addEventListener("click", () => { state.cls = name; button.blur(); redraw(); });
    return button;
  }));
  $("channels").replaceChildren(...seed.channels.map((channel, index) => {
    const button = element("button", { type: "button" }, channel.name);
    button.addEventListener("click", () => { state.channel = index; button.blur(); redraw(); });
    return button;
  }));
}

// ---- the mask: a canvas in the region's own pixels

function proposed(seed) {
  const region = seed.crops.edit;
  canvas.width = region.width;
  canvas.height = region.height;
  canvas.hidden = !open();
  pen.clearRect(0, 0, canvas.width, canvas.height);
  fill(seed, region);
}

// The outline runs along pixels' edges, so filling it by the even-odd rule from its vertical pieces gives the mask back.
function fill(seed, region) {
  const rows = new Map();
  for (const [, x, y, length] of seed.outline.matchAll(/M(\d+) (\d+)v(\d+)/g)) {
    for (let row = Number(y); row < Number(y) + Number(length); row += 1) {
      if (!rows.has(row)) rows.set(row, []);
      rows.get(row).push(Number(x));
    }
  }
  pen.fillStyle = COLOUR;
  for (const [row, edges] of rows) {
    edges.sort((a, b) => a - b);
    for (let at = 0; at + 1 < edges.length; at += 2) {
      pen.fillRect(edges[at] - region.x, row - region.y, edges[at + 1] - edges[at], 1);
    }
  }
}

function stroke(from, to) {
  pen.globalCompositeOperation = state.erase ? "destination-out" : "source-over";
  pen.fillStyle = COLOUR;
  const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y)));
  for (let at = 0; at <= steps; at += 1) {
    dab(from.x + ((to.x - from.x) * at) / steps, from.y + ((to.y - from.y) * at) / steps);
  }
  pen.globalCompositeOperation = "source-over";
  state.drawn = true;
}

// Whole pixels, no soft edges: a pixel is in the mask or it is not.
function dab(x, y) {
  const radius = state.width / 2;
  for (let row = Math.ceil(y - radius - 0.5); row <= y + radius - 0.5; row += 1) {
    const half = Math.sqrt(Math.max(0, radius * radius - (row + 0.5 - y) ** 2));
    const left = Math.round(x - half);
    pen.fillRect(left, row, Math.max(1, Math.round(x + half) - left), 1);
  }
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return { x: ((event.clientX - box.left) * canvas.width) / box.width, y: ((event.clientY - box.top) * canvas.height) / box.height };
}

let last = null;
canvas.addEventListener("pointerdown", (event) => {
  if (!open() || event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  state.undo.push(pen.getImageData(0, 0, canvas.width, canvas.height));
  if (state.undo.length > 20) state.undo.shift();
  last = place(event);
  stroke(last, last);
});
canvas.addEventListener("pointermove", (event) => {
  if (!last) return;
  const next = place(event);
  stroke(last, next);
  last = next;
});
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { last = null; });

function unstroke() {
  const before = state.undo.pop();
  if (before) pen.putImageData(before, 0, 0);
}

function exported() {
  const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
  const flat = document.createElement("canvas");
  flat.width = canvas.width;
  flat.height = canvas.height;
  const ink = flat.getContext("2d");
  const grey = ink.createImageData(flat.width, flat.height);
  for (let at = 0; at < data.length; at += 4) {
    grey.data.fill(data[at + 3] > 127 ? 255 : 0, at, at + 3);
    grey.data[at + 3] = 255;
  }
  ink.putImageData(grey, 0, 0);
  return flat.toDataURL("image/png").split(",")[1];
}

// ---- decisions

async function settle(path, body) {
  const seed = current();
  if (!seed || $("confirm").disabled) return;
  $("confirm").disabled = $("refuse").disabled = true;
  try {
    await post(path, { recipe: state.recipe, seed_id: seed.seed_id, ...body });
  } catch (error) {
    if (error.kind === "name") await askName();
    else notice(error.message);
    $("confirm").disabled = $("refuse").disabled = false;
    return;
  }
  $("why").value = "";
  start(state.index);
}

const confirm = () => settle("/api/seeds/confirm", {
  defect_class: state.cls, ...(state.drawn ? { mask: exported(), box: current().crops.edit } : {}),
});
const refuse = () => settle("/api/seeds/refuse", { reason: $("why").value.trim() || "not a defect" });

function tool(erase) {
  state.erase = erase;
  $("brush").setAttribute("aria-pressed", !erase);
  $("eraser").setAttribute("aria-pressed", erase);
}

function width(value) {
  state.width = Math.min(41, Math.max(1, value));
  $("width").value = state.width;
  $("width-out").textContent = `${state.width} px`;
}

const KEYS = {
  d: () => tool(false), e: () => tool(true), u: unstroke, enter: confirm, x: refuse,
  o: () => { proposed(current()); state.drawn = false; },
  m: () => { state.visible = !state.visible; canvas.style.visibility = state.visible ? "" : "hidden"; },
  "[": () => width(state.width - 2), "]": () => width(state.width + 2),
  arrowdown: () => select(Math.min(state.seeds.length - 1, state.index + 1)), arrowup: () => select(state.index - 1),
  arrowright: () => turn(1), arrowleft: () => turn(-1),
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
  } else if (KEYS[key] && !(event.repeat && (key === "enter" || key === "x"))) {
    event.preventDefault();
    KEYS[key]();
  }
});
window.addEventListener("resize", () => current() && fit($("canvas-box"), current().crops.edit));
$("brush").addEventListener("click", () => tool(false));
$("eraser").addEventListener("click", () => tool(true));
$("unstroke").addEventListener("click", unstroke);
$("original").addEventListener("click", KEYS.o);
$("width").addEventListener("input", (event) => { width(Number(event.target.value)); event.target.blur(); });
$("confirm").addEventListener("click", confirm);
$("refuse").addEventListener("click", refuse);
$("why").addEventListener("keydown", (event) => { if (event.key === "Enter") { event.target.blur(); refuse(); } });
$("state").addEventListener("change", (event) => { state.shown = event.target.value; event.target.blur(); start(); });
state.recipe = recipeChoice((recipe) => { state.recipe = recipe; start(); });
if (state.recipe) start();
