// The channels of one part side by side: one view of the part for all of them, its pixels, and where they are clipped.

import { $, element, figures, get, svg } from "./common.js";
import { draw as histogram } from "./histogram.js";
import { load } from "./pictures.js";

const WHOLE_PX = 1280; // longest side of a picture from the server
const LEAST_PX = 12; // of the part across a tile, when zoomed in as far as it goes
const LABEL_PX = 13; // on the screen, whatever the zoom
const PATCH = 64;
const KEPT_PATCHES = 48;
const SETTLED_MS = 140;

const state = { picture: null, regions: [], tiles: [], view: null, full: false, clipped: false, outlined: true, run: 0 };
const patches = new Map();
let settling = 0;
let pointer = null;

// Shows a part; the view stays where it is when the next part has the same size.
export async function show(picture, regions) {
  const run = ++state.run;
  const same = state.picture && state.picture.width === picture.width && state.picture.height === picture.height
    && state.tiles.length === picture.channels.length
    && state.tiles.every((tile, index) => tile.name === picture.channels[index].name);
  // What is to be seen is loaded first, so that all channels change at once and none shows another part.
  await Promise.all(picture.channels.flatMap((channel) => [
    load(channel.ranges[mode()].whole), ...(state.clipped ? [load(marksAddress(picture, channel))] : []),
  ]));
  if (run !== state.run) return;
  Object.assign(state, { picture, regions });
  if (!same) build();
  if (!same || !state.view) state.view = { x: 0, y: 0, width: picture.width, height: picture.height };
  for (const tile of state.tiles) fill(tile);
  place();
  for (const tile of state.tiles) levels(tile, run);
  if (pointer) read();
}

export function clear(sentence) {
  state.run += 1;
  Object.assign(state, { picture: null, tiles: [], view: null });
  $("frames").dataset.channels = 0;
  $("frames").replaceChildren(element("p", { class: "empty" }, sentence));
  $("zoom").textContent = "";
}

// Turns one of `full`, `clipped`, `outlined` over.
export function toggle(what) {
  state[what] = !state[what];
  for (const tile of state.tiles) fill(tile);
  place();
  return state[what];
}

export function whole() {
  if (!state.picture) return;
  state.view = { x: 0, y: 0, width: state.picture.width, height: state.picture.height };
  place();
}

// Zooms about a point of the part, its middle when none is given.
export function zoom(factor, at = null) {
  if (!state.view) return;
  const { view, picture } = state;
  const about = at || { x: view.x + view.width / 2, y: view.y + view.height / 2 };
  const least = Math.min(1, LEAST_PX / Math.min(picture.width, picture.height));
  const share = Math.min(1, Math.max(least, (view.width / picture.width) / factor));
  const ratio = (share * picture.width) / view.width;
  Object.assign(view, { width: share * picture.width, height: share * picture.height,
    x: about.x - (about.x - view.x) * ratio, y: about.y - (about.y - view.y) * ratio });
  place();
}

export function move(dx, dy) {
  if (!state.view) return;
  state.view.x += dx * state.view.width;
  state.view.y += dy * state.view.height;
  place();
}

const mode = () => (state.full ? "full" : "stretched");
const marksAddress = (picture, channel) => `/marks/${picture.address}?${new URLSearchParams({ d: picture.digest, c: channel.index })}`;

function build() {
  const place = $("frames");
  state.tiles = state.picture.channels.map((channel) => {
    const stack = svg("svg", { class: "stack", tabindex: "0", role: "img", "aria-label": `last part, ${channel.name}` });
    const layers = Object.fromEntries(["base", "detail", "marks", "marksdetail", "regions", "cursor"].map((name) => [name, svg("g", { class: name })]));
    stack.append(...Object.values(layers));
    const value = element("span", { class: "value mono" });
    const facts = element("span", { class: "how" });
    const chart = svg("svg", { class: "histogram", role: "img", preserveAspectRatio: "none" });
    const told = element("p", { class: "levels mono" });
    const box = element("div", { class: "picture" });
    box.append(stack);
    const figure = element("figure", { class: "view" }, box, chart, told, element("figcaption", {}, element("b", {}, channel.name), value, facts));
    watch(stack);
    return { name: channel.name, figure, box, stack, layers, chart, told, value, facts, channel };
  });
  const count = state.tiles.length;
  place.dataset.channels = count;
  place.dataset.columns = count <= 4 ? count : count <= 8 ? 4 : count <= 18 ? 6 : 8;
  place.replaceChildren(...state.tiles.map((tile) => tile.figure));
}

function fill(tile) {
  const { picture } = state;
  tile.channel = picture.channels[state.tiles.indexOf(tile)];
  const range = tile.channel.ranges[mode()];
  const region = { x: 0, y: 0, width: picture.width, height: picture.height };
  lay(tile.layers.base, range.whole, region);
  tile.layers.detail.replaceChildren();
  tile.layers.marksdetail.replaceChildren();
  if (state.clipped) lay(tile.layers.marks, marksAddress(picture, tile.channel), region);
  else tile.layers.marks.replaceChildren();
  tile.facts.textContent = `${figures(tile.channel.exposure_us)} µs, shown ${range.low}–${range.high}`;
  tile.facts.title = `${range.low} DN is shown black, ${range.high} DN white`;
  if (tile.levels) histogram(tile.chart, tile.told, tile.levels, range);
}

function lay(layer, address, region) {
  layer.replaceChildren(svg("image", { href: address, ...region, preserveAspectRatio: "none" }));
}

// Puts the view on every tile and, once it rests, the pixels that it needs.
function place() {
  const { view, picture } = state;
  if (!view) return;
  view.x = Math.min(Math.max(0, view.x), picture.width - view.width);
  view.y = Math.min(Math.max(0, view.y), picture.height - view.height);
  for (const tile of state.tiles) {
    tile.stack.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
    tile.box.classList.toggle("sharp", scaleOf(tile) >= 3);
    outline(tile);
  }
  $("zoom").textContent = `${(picture.width / view.width).toFixed(1)}×`;
  clearTimeout(settling);
  settling = setTimeout(detail, SETTLED_MS);
}

const scaleOf = (tile) => Math.min(tile.box.clientWidth / state.view.width, tile.box.clientHeight / state.view.height);

// A large part came averaged down: what is looked at closely is asked for in its own pixels.
async function detail() {
  const { picture, view, run } = state;
  if (!picture || Math.max(picture.width, picture.height) <= WHOLE_PX || view.width === picture.width) return;
  const box = around(view, picture);
  const asked = `${box.x},${box.y},${box.width},${box.height}`;
  await Promise.all(state.tiles.map(async (tile) => {
    const range = tile.channel.ranges[mode()];
    const near = `/pixels/${picture.address}?${new URLSearchParams({ d: picture.digest, c: tile.channel.index, lo: range.low, hi: range.high, box: asked })}`;
    const marks = `${marksAddress(picture, tile.channel)}&${new URLSearchParams({ box: asked })}`;
    try {
      await Promise.all([load(near), ...(state.clipped ? [load(marks)] : [])]);
    } catch {
      return; // the coarse picture stays, which is true as well
    }
    // Meanwhile the view may have gone on, or another part come.
    const now = state.run === run ? around(state.view, picture) : null;
    if (!now || ["x", "y", "width", "height"].some((key) => now[key] !== box[key])) return;
    lay(tile.layers.detail, near, box);
    if (state.clipped) lay(tile.layers.marksdetail, marks, box);
  }));
}

// The region on the screen (a tile is seldom of the part's shape) and an eighth about it, on a grid so that small moves
// ask for nothing new.
function around(view, picture) {
  const step = 32;
  const scale = scaleOf(state.tiles[0]);
  const span = (from, length, onScreen, whole) => {
    const half = Math.max(length, onScreen / scale) * 0.625;
    const middle = from + length / 2;
    return [Math.max(0, Math.floor((middle - half) / step) * step), Math.min(whole, Math.ceil((middle + half) / step) * step)];
  };
  const [x, right] = span(view.x, view.width, state.tiles[0].box.clientWidth, picture.width);
  const [y, bottom] = span(view.y, view.height, state.tiles[0].box.clientHeight, picture.height);
  return { x, y, width: right - x, height: bottom - y };
}

function outline(tile) {
  const { view, picture, regions } = state;
  tile.layers.regions.replaceChildren();
  if (!state.outlined) return;
  const size = LABEL_PX / scaleOf(tile);
  // Of regions side by side the surest is named: names over each other can't be read.
  const named = [];
  for (const { box: at, defect_class: name, score } of regions.toSorted((a, b) => b.score - a.score)) {
    tile.layers.regions.append(svg("rect", { ...at, class: "region" }));
    const above = at.y - view.y > 1.6 * size;
    const right = at.x > picture.width * 0.7;
    const label = svg("text", {
      x: right ? at.x + at.width : at.x, y: above ? at.y - 0.4 * size : at.y + at.height + 1.1 * size,
      class: "region-name", "font-size": size, "stroke-width": size / 7, "text-anchor": right ? "end" : "start",
    });
    label.textContent = `${name} ${score.toFixed(2)}`;
    const width = 0.6 * size * label.textContent.length;
    const spot = { left: right ? at.x + at.width - width : at.x, width, y: Number(label.getAttribute("y")) };
    if (named.some((one) => beside(one, spot, size))) continue;
    named.push(spot);
    tile.layers.regions.append(label);
  }
}

const beside = (one, other, size) => Math.abs(one.y - other.y) < 1.1 * size
  && one.left < other.left + other.width && other.left < one.left + one.width;

async function levels(tile, run) {
  const { picture } = state;
  let found = null;
  try {
    found = await get(`/levels/${picture.address}`, { d: picture.digest, c: tile.channel.index });
  } catch {
    // Said below: a histogram of another part would be worse than none.
  }
  if (state.run !== run) return;
  tile.levels = found;
  if (!found) {
    tile.chart.replaceChildren();
    tile.told.textContent = "levels unknown";
    return;
  }
  histogram(tile.chart, tile.told, found, tile.channel.ranges[mode()]);
}

function watch(stack) {
  const at = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(stack.getScreenCTM().inverse());
  let held = null;
  stack.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? event.deltaY * 24 : event.deltaY;
    // Not cut off: the browser may put several turns of the wheel into one event.
    zoom(Math.exp(-lines / 400), at(event));
  }, { passive: false });
  stack.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    held = at(event);
    stack.setPointerCapture(event.pointerId);
  });
  stack.addEventListener("pointermove", (event) => {
    const here = at(event);
    if (held) {
      state.view.x -= here.x - held.x;
      state.view.y -= here.y - held.y;
      place();
      held = at(event);
    }
    pointer = { x: Math.floor(here.x), y: Math.floor(here.y) };
    read();
  });
  for (const name of ["pointerup", "pointercancel"]) stack.addEventListener(name, () => { held = null; });
  stack.addEventListener("pointerleave", () => {
    pointer = null;
    read();
  });
  stack.addEventListener("dblclick", whole);
}

// The digital numbers under the pointer, on every channel, and where that is on each.
async function read() {
  const { picture, run } = state;
  const spot = pointer;
  const inside = picture && spot && spot.x >= 0 && spot.y >= 0 && spot.x < picture.width && spot.y < picture.height;
  for (const tile of state.tiles) {
    tile.layers.cursor.replaceChildren(...(inside ? [svg("rect", { ...spot, width: 1, height: 1 })] : []));
    if (!inside) tile.value.textContent = "";
  }
  if (!inside) return;
  $("cursor").textContent = `x ${spot.x}  y ${spot.y}`;
  let patch;
  try {
    patch = await patchAt(picture, spot);
  } catch {
    return; // the next move asks again
  }
  if (run !== state.run || pointer !== spot) return;
  const full = 2 ** picture.bit_depth - 1;
  state.tiles.forEach((tile, channel) => {
    const value = patch.values[(channel * patch.height + spot.y - patch.y) * patch.width + spot.x - patch.x];
    tile.value.textContent = `${value} DN`;
    tile.value.dataset.clipped = value === 0 ? "under" : value >= full ? "over" : "";
  });
}

function patchAt(picture, spot) {
  const [x, y] = [spot.x - spot.x % PATCH, spot.y - spot.y % PATCH];
  const [width, height] = [Math.min(PATCH, picture.width - x), Math.min(PATCH, picture.height - y)];
  const key = `${picture.digest} ${x} ${y}`;
  let patch = patches.get(key);
  if (!patch) {
    patch = fetch(`/values/${picture.address}?${new URLSearchParams({ d: picture.digest, box: `${x},${y},${width},${height}` })}`)
      .then(async (response) => {
        if (!response.ok) throw new Error("no digital numbers");
        return { x, y, width, height, values: new Uint16Array(await response.arrayBuffer()) };
      });
    patch.catch(() => patches.delete(key));
    patches.set(key, patch);
    if (patches.size > KEPT_PATCHES) patches.delete(patches.keys().next().value);
  }
  return patch;
}

// Tiles change with the window, and what is drawn in the screen's own size with them.
window.addEventListener("resize", place);
