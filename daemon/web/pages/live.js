// Live: the last part, what was said of it, and how it has been going.

import { $, element, figures, get, notice, svg } from "./common.js";
import { put, sharpness } from "./pictures.js";

const SIGNS = { OK: "✓", NG: "✕", FAULT: "!" };
const EVERY_MS = 400;
let shown = { job: "", picture: "" };

async function poll() {
  let wait = EVERY_MS;
  try {
    const now = await get("/api/live", { job: shown.job, picture: shown.picture });
    notice("");
    machine(now.status);
    if (now.results) {
      verdict(now.results[0]);
      trend(now.results);
      shown = { job: now.results[0]?.verdict.job_id || "", picture: now.picture?.address || "" };
      await frames(now.results[0], now.picture);
    }
    $("live").setAttribute("aria-busy", "false");
  } catch (error) {
    notice(error.message);
    $("live").setAttribute("aria-busy", "true");
    wait = 2000;
  }
  setTimeout(poll, document.hidden ? 2000 : wait);
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

async function frames(result, picture) {
  const place = $("frames");
  if (!picture) {
    place.dataset.channels = 0;
    place.replaceChildren(element("p", { class: "empty" }, result
      ? "No picture of this part is kept (yet): the recipe's archive rule keeps NG, FAULT and a share of OK."
      : "The first part will stand here on every channel."));
    return;
  }
  const whole = { x: 0, y: 0, width: picture.width, height: picture.height };
  const tiles = picture.channels.map((channel) => {
    const box = element("div", { class: "picture" }, element("div", { class: "layer" }));
    box.append(svg("svg", { class: "overlay" }));
    const range = channel.ranges.stretched;
    const caption = element("figcaption", {}, element("b", {}, channel.name),
      element("span", {}, `${figures(channel.exposure_us)} µs, ${range.low}–${range.high} DN shown black to white`));
    return { box, range, channel, figure: element("figure", { class: "view" }, box, caption) };
  });
  await Promise.all(tiles.map(async ({ box, range, channel }) => {
    await put(box, range.whole, whole, "", { alt: `last part, ${channel.name}` });
    regions(box, result.verdict.regions, whole);
  }));
  place.dataset.channels = tiles.length;
  place.replaceChildren(...tiles.map((tile) => tile.figure));
  for (const { box } of tiles) sharpness(box, whole);
}

function regions(box, found, whole) {
  const layer = box.querySelector("svg.overlay");
  const size = Math.max(whole.width, whole.height) / 36;
  for (const { box: at, defect_class: name, score } of found) {
    layer.append(svg("rect", { ...at, class: "region" }));
    const above = at.y > 1.6 * size;
    const right = at.x > whole.width * 0.7;
    const label = svg("text", {
      x: right ? at.x + at.width : at.x, y: above ? at.y - 0.4 * size : at.y + at.height + 1.1 * size,
      class: "region-name", "font-size": size, "stroke-width": size / 7, "text-anchor": right ? "end" : "start",
    });
    label.textContent = `${name} ${score.toFixed(2)}`;
    layer.append(label);
  }
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

poll();
