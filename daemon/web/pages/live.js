// Live: the last part, what was said of it, and how it has been going.

import * as channels from "./channels.js";
import { $, element, figures, get, notice, svg, typing } from "./common.js";

const SIGNS = { OK: "✓", NG: "✕", FAULT: "!" };
const EVERY_MS = 400;
// What the page knows of (`seen`), and the part that it keeps on the screen while others go by (`held`).
let seen = { job: "", picture: "" };
let shown = "";
let held = "";

async function poll() {
  let wait = EVERY_MS;
  try {
    const now = await get("/api/live", { job: seen.job, picture: seen.picture });
    notice("");
    machine(now.status);
    if (now.results) {
      trend(now.results);
      seen = { job: now.results[0]?.verdict.job_id || "", picture: now.picture?.address || "" };
      if (held) passing(now.results);
      else await part(now.results[0], now.picture, now.absence);
    } else if (now.absence && !held) {
      channels.clear(now.absence);
    }
    $("live").setAttribute("aria-busy", "false");
  } catch (error) {
    notice(error.message);
    $("live").setAttribute("aria-busy", "true");
    // What could not be shown is asked for again.
    if (!held) seen = { job: "", picture: "" };
    wait = 2000;
  }
  setTimeout(poll, document.hidden ? 2000 : wait);
}

async function part(result, picture, absence) {
  verdict(result);
  shown = result?.verdict.job_id || "";
  if (picture) {
    await channels.show(picture, result.verdict.regions);
  } else {
    channels.clear(absence || "The first part will stand here on every channel.");
  }
}

function hold() {
  held = held ? "" : shown;
  $("hold").setAttribute("aria-pressed", String(Boolean(held)));
  $("verdict").classList.toggle("held", Boolean(held));
  $("verdict").dataset.held = held ? "held: no newer part" : "";
  if (!held) seen = { job: "", picture: "" };
}

function passing(results) {
  const newer = results.findIndex((result) => result.verdict.job_id === held);
  const count = newer < 0 ? `${results.length} or more` : newer;
  $("verdict").dataset.held = `held: ${newer === 0 ? "no" : count} newer part${newer === 1 ? "" : "s"}`;
}

function verdict(result) {
  const panel = $("verdict");
  if (!result) {
    panel.dataset.outcome = "none";
    $("outcome").textContent = "No part yet";
    return;
  }
  const { verdict: judged } = result;
  panel.dataset.outcome = judged.outcome;
  panel.querySelector(".sign").textContent = SIGNS[judged.outcome];
  $("outcome").textContent = judged.outcome;
  $("part").textContent = `${judged.part_id}  ·  ${judged.job_id}`;
  $("score").textContent = figures(judged.score);
  $("threshold").textContent = figures(judged.threshold);
  $("latency").textContent = `${figures(judged.timings.total_ms)} ms`;
  $("at").textContent = new Date(judged.created_at).toLocaleTimeString([], { hour12: false });
  $("reasons-list").replaceChildren(...judged.reasons.map((reason) => element("li", {}, reason)));
}

function trend(results) {
  const chart = $("trend");
  const [width, height, left] = [720, 150, 30];
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  chart.replaceChildren();
  const y = (score) => 10 + (1 - score) * (height - 24);
  for (const tick of [0, 0.5, 1]) {
    chart.append(svg("line", { x1: left, x2: width, y1: y(tick), y2: y(tick), class: "grid" }));
    const text = svg("text", { x: left - 8, y: y(tick) + 4, class: "tick", "text-anchor": "end" });
    text.textContent = tick;
    chart.append(text);
  }
  const step = (width - left - 12) / 50;
  const parts = results.slice(0, 50).reverse();
  let bar = "";
  parts.forEach(({ verdict: judged }, index) => {
    const x = left + 8 + (50 - parts.length + index + 0.5) * step;
    if (judged.threshold != null) bar += `M${x - step / 2} ${y(judged.threshold)}h${step}`;
    chart.append(mark(judged, x, judged.score == null ? height - 8 : y(judged.score)));
  });
  chart.prepend(svg("path", { d: bar, class: "threshold" }));
}

function mark(judged, x, at) {
  const shapes = {
    OK: () => svg("circle", { cx: x, cy: at, r: 3.6 }),
    NG: () => svg("path", { d: `M${x} ${at - 5.5}l5.2 9.4h-10.4z` }),
    FAULT: () => svg("rect", { x: x - 4, y: at - 4, width: 8, height: 8 }),
  };
  const shape = shapes[judged.outcome]();
  shape.setAttribute("class", judged.outcome.toLowerCase());
  const title = svg("title");
  title.textContent = `${judged.part_id}: ${judged.outcome} ${figures(judged.score)}`;
  shape.append(title);
  return shape;
}

function machine(status) {
  for (const [id, key] of [["n-ok", "OK"], ["n-ng", "NG"], ["n-fault", "FAULT"]]) $(id).textContent = status.counts[key] ?? 0;
  $("machine").replaceChildren(...status.facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  $("conditions").replaceChildren(...status.conditions.map((text) => element("li", {}, text)));
}

function pressed(id, what) {
  $(id).setAttribute("aria-pressed", String(channels.toggle(what)));
}

const KEYS = {
  " ": hold, r: () => pressed("regions", "outlined"), c: () => pressed("clipped", "clipped"), f: () => pressed("full", "full"),
  0: channels.whole, "+": () => channels.zoom(1.5), "=": () => channels.zoom(1.5), "-": () => channels.zoom(1 / 1.5),
  ArrowLeft: () => channels.move(-0.2, 0), ArrowRight: () => channels.move(0.2, 0),
  ArrowUp: () => channels.move(0, -0.2), ArrowDown: () => channels.move(0, 0.2),
};
document.addEventListener("keydown", (event) => {
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || typing(event) || (event.key === " " && event.target.tagName === "BUTTON")) return;
  event.preventDefault();
  act();
});
$("hold").addEventListener("click", hold);
$("regions").addEventListener("click", KEYS.r);
$("clipped").addEventListener("click", KEYS.c);
$("full").addEventListener("click", KEYS.f);
$("whole").addEventListener("click", channels.whole);
poll();
