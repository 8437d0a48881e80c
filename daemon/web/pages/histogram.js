// A channel's histogram: how often each digital number occurs (logarithmic), what is shown black and white, what is clipped.

import { element, svg } from "./common.js";

const HEIGHT = 40;
// From this share on, clipped pixels are worth a glance at the exposure.
const WARN = 0.001;

export function draw(chart, told, levels, range) {
  const { bins, full_scale: full } = levels;
  const count = bins.length;
  chart.setAttribute("viewBox", `0 0 ${count} ${HEIGHT}`);
  const most = Math.log1p(Math.max(...bins));
  let area = `M0 ${HEIGHT}`;
  bins.forEach((number, index) => {
    area += `V${(HEIGHT - (HEIGHT - 3) * Math.log1p(number) / most).toFixed(1)}H${index + 1}`;
  });
  const at = (value) => value / (full + 1) * count;
  chart.replaceChildren(
    svg("rect", { class: "window", x: at(range.low), y: 0, width: Math.max(1, at(range.high) - at(range.low)), height: HEIGHT }),
    svg("path", { class: "counts", d: `${area}V${HEIGHT}z` }),
  );
  const mark = (name, x) => chart.append(svg("rect", { class: name, x, y: 0, width: 4, height: HEIGHT }));
  if (levels.dark_share > 0) mark("under", 0);
  if (levels.saturated_share > 0) mark("over", count - 4);
  if (levels.ceiling != null) mark("over", Math.min(count - 4, at(levels.ceiling)));
  chart.setAttribute("aria-label", `histogram, ${share(levels.dark_share)} at 0, ${share(over(levels))} saturated`);
  told.replaceChildren(
    clip("under", levels.dark_share, "0: ", "pixels at 0 DN"),
    element("span", {}, `${levels.low}–${levels.high}, mean ${levels.mean.toFixed(levels.mean < 100 ? 1 : 0)}`),
    levels.ceiling == null
      ? clip("over", levels.saturated_share, `${full}: `, `pixels at full scale, ${full} DN`)
      : clip("over", levels.ceiling_share, `${levels.ceiling}: `, `pixels pile up at ${levels.ceiling} DN, below full scale ${full}: the sensor saturates there`),
  );
}

const over = (levels) => levels.saturated_share + levels.ceiling_share;

function clip(side, value, label, title) {
  return element("span", { class: `clip ${side}`, "data-clipped": value >= WARN ? "much" : value > 0 ? "some" : "none", title }, label + share(value));
}

export function share(value) {
  if (value === 0) return "0 %";
  if (value < 0.0001) return "<0.01 %";
  return value < 0.1 ? `${(100 * value).toFixed(2)} %` : `${(100 * value).toFixed(0)} %`;
}
