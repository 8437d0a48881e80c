// What the review page shows of the present candidate, and the state that it shows it in.

import { $, element, figures, get, notice } from "./common.js";
import { put, sharpness } from "./pictures.js";

export const ZOOMS = ["near", "wide"];
export const state = {
  recipe: "", cls: "", order: "", current: null, upcoming: [], ahead: null, past: [], done: new Set(),
  channel: 0, zoom: 0, outline: true, mode: "stretched", clean: false, rejecting: false,
  counts: { waiting: 0, accepted: 0, rejected: 0 }, run: 0,
};

export async function draw() {
  const { view } = state.current;
  const entry = state.current;
  $("subject-class").textContent = shown(view);
  $("subject-id").textContent = view.candidate_id;
  const prior = state.current.prior;
  $("subject-prior").hidden = !prior;
  if (prior) $("subject-prior").textContent = `Decided before: ${prior.verb}ed${prior.reason ? ` (${prior.reason})` : ""}. A new decision replaces it.`;
  $("subject-withdrawn").hidden = !view.withdrawn;
  $("subject-withdrawn").textContent = view.withdrawn
    && `Its background was withdrawn: ${view.withdrawn}. It is neither learned from, exported nor compared, whatever is decided.`;
  $("scores").replaceChildren(
    ...pair("severity", `${figures(view.severity)} σ`),
    ...pair("size", `${view.box.width} × ${view.box.height} px`),
    ...scored(view.scores),
    ...pair("background", view.background_id),
    ...(Object.keys(view.randomised).length ? pair("whole picture altered", altered(view.randomised)) : []),
  );
  await Promise.all([drawViews(entry), drawStrip(entry)]);
  if (state.current === entry) $("review").setAttribute("aria-busy", "false");
}

// Light, noise and focus that were drawn for the whole picture: beside its background it looks otherwise everywhere.
function altered(drawn) {
  const lights = Object.entries(drawn).filter(([name]) => name.startsWith("light_"));
  const light = lights.map(([name, factor]) => `${name.slice(6)} × ${factor.toFixed(2)}`).join(", ");
  return `${light}; noise +${Math.round(100 * drawn.noise)} %; blur ${drawn.focus_px.toFixed(1)} px`;
}

// Several defects on one part: how many of each class, so that a reviewer looks for all of them.
function shown(view) {
  if (view.regions.length === 0) return view.defect_class;
  const count = (name) => view.regions.filter((region) => region.defect_class === name).length;
  return view.classes.map((name) => (count(name) > 1 ? `${count(name)} × ${name}` : name)).join(" + ");
}

// Of judged candidates each score is a rank: the share of the class that is less doubtful in it.
function scored(scores) {
  const judged = "doubt" in scores;
  const names = Object.keys(scores).sort((one, two) => (two === "doubt") - (one === "doubt"));
  return names.flatMap((name) => pair(WORDS[name] || name.replaceAll("_", " "),
    judged ? `above ${Math.round(100 * scores[name])} % of the class` : figures(scores[name])));
}

const WORDS = {
  doubt: "doubtful", visibility: "hardly seen", beyond_seeds: "unlike the seeds' strength", seam: "seam",
  outside: "off the part", placement: "unusual place", memorised: "copy of a seed", gap: "texture unlike real", clipped: "clipped",
};

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
export async function showNeighbours(cls) {
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

export function redraw() {
  const entry = state.current;
  if (!entry) return;
  Promise.all([drawViews(entry), drawStrip(entry)]).catch((error) => notice(error.message));
  showNeighbours(entry.view.defect_class);
}

export const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));

export function showCounts() {
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
