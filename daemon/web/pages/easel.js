// The easel: one byte for each pixel of the part says whether it is in the mask; brush, eraser and wand change it, every
// change can be undone, and a window of it lies over the channel that is looked at.

const COLOUR = [255, 196, 60, 255];
const STEPS = 200; // changes that can be undone
const LEAST_PX = 24; // of the part across the easel, when zoomed in as far as it goes
const MOST_PX = 4096; // and at most: a canvas of 50 megapixels would follow no pointer

const canvas = document.getElementById("mask");
const pen = canvas.getContext("2d");

export const easel = {
  width: 0, height: 0, mask: new Uint8Array(0), start: new Uint8Array(0), view: { x: 0, y: 0, width: 1, height: 1 }, done: [], undone: [], changed: false,
};

// Begins with a mask of the part's size; `view` is the window shown first.
export function begin(width, height, mask, view) {
  Object.assign(easel, { width, height, mask: mask.slice(), start: mask, view: { ...view }, done: [], undone: [], changed: false });
  paint();
}

// The outline runs along pixels' edges, so filling it by the even-odd rule from its vertical pieces gives the mask back.
export function filled(outline, width, height) {
  const rows = new Map();
  for (const [, x, y, length] of outline.matchAll(/M(\d+) (\d+)v(\d+)/g)) {
    for (let row = Number(y); row < Number(y) + Number(length); row += 1) {
      if (!rows.has(row)) rows.set(row, []);
      rows.get(row).push(Number(x));
    }
  }
  const mask = new Uint8Array(width * height);
  for (const [row, edges] of rows) {
    edges.sort((a, b) => a - b);
    for (let at = 0; at + 1 < edges.length; at += 2) mask.fill(1, row * width + edges[at], row * width + edges[at + 1]);
  }
  return mask;
}

export function paint() {
  const { view, mask, width } = easel;
  if (canvas.width !== view.width || canvas.height !== view.height) Object.assign(canvas, { width: view.width, height: view.height });
  const picture = pen.createImageData(view.width, view.height);
  const pixels = new Uint32Array(picture.data.buffer);
  const ink = new Uint32Array(Uint8Array.from(COLOUR).buffer)[0];
  for (let row = 0; row < view.height; row += 1) {
    const from = (view.y + row) * width + view.x;
    for (let column = 0; column < view.width; column += 1) if (mask[from + column]) pixels[row * view.width + column] = ink;
  }
  pen.putImageData(picture, 0, 0);
}

// ---- changes: each is kept as the pixels that it changed

let under = null;

export function beginChange() {
  under = new Map();
}

function set(x, y, value) {
  if (x < 0 || y < 0 || x >= easel.width || y >= easel.height) return;
  const at = y * easel.width + x;
  if (easel.mask[at] === value) return;
  if (!under.has(at)) under.set(at, easel.mask[at]);
  easel.mask[at] = value;
}

export function endChange() {
  if (under && under.size) {
    easel.done.push(under);
    if (easel.done.length > STEPS) easel.done.shift();
    easel.undone = [];
    easel.changed = true;
  }
  under = null;
}

function turnBack(from, onto) {
  const change = from.pop();
  if (!change) return false;
  const other = new Map();
  for (const [at, value] of change) {
    other.set(at, easel.mask[at]);
    easel.mask[at] = value;
  }
  onto.push(other);
  paint();
  return true;
}

export const undo = () => turnBack(easel.done, easel.undone);
export const redo = () => turnBack(easel.undone, easel.done);

// Puts another mask in the place of this one; can be undone like a stroke.
export function replace(mask) {
  beginChange();
  for (let at = 0; at < mask.length; at += 1) {
    if (easel.mask[at] !== mask[at]) {
      under.set(at, easel.mask[at]);
      easel.mask[at] = mask[at];
    }
  }
  endChange();
  paint();
}

export function stroke(from, to, diameter, value) {
  const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y)));
  for (let at = 0; at <= steps; at += 1) dab(from.x + ((to.x - from.x) * at) / steps, from.y + ((to.y - from.y) * at) / steps, diameter / 2, value);
  paint();
}

// Whole pixels, no soft edges: a pixel is in the mask or it is not.
function dab(x, y, radius, value) {
  for (let row = Math.ceil(y - radius - 0.5); row <= y + radius - 0.5; row += 1) {
    const half = Math.sqrt(Math.max(0, radius * radius - (row + 0.5 - y) ** 2));
    const left = Math.round(x - half);
    const right = left + Math.max(1, Math.round(x + half) - left);
    for (let column = left; column < right; column += 1) set(column, row, value);
  }
}

// The wand: from the strongest place near the pointer, all that hangs together and reaches `share` of its anomaly.
// `map` has {x, y, width, height, values}: the anomaly of a region of the part, linear.
export function grow(map, place, share, value) {
  const inside = (x, y) => x >= map.x && y >= map.y && x < map.x + map.width && y < map.y + map.height;
  const at = (x, y) => map.values[(y - map.y) * map.width + x - map.x];
  let [bx, by] = [Math.floor(place.x), Math.floor(place.y)];
  if (!inside(bx, by)) return 0;
  const [cx, cy] = [bx, by];
  for (let y = cy - 4; y <= cy + 4; y += 1) for (let x = cx - 4; x <= cx + 4; x += 1) if (inside(x, y) && at(x, y) > at(bx, by)) [bx, by] = [x, y];
  const limit = at(bx, by) * share;
  const seen = new Uint8Array(map.width * map.height);
  const waiting = [[bx, by]];
  seen[(by - map.y) * map.width + bx - map.x] = 1;
  let count = 0;
  beginChange();
  while (waiting.length) {
    const [x, y] = waiting.pop();
    set(x, y, value);
    count += 1;
    for (const [nx, ny] of [[x + 1, y], [x - 1, y], [x, y + 1], [x, y - 1]]) {
      if (!inside(nx, ny)) continue;
      const index = (ny - map.y) * map.width + nx - map.x;
      if (!seen[index] && map.values[index] >= limit) {
        seen[index] = 1;
        waiting.push([nx, ny]);
      }
    }
  }
  endChange();
  paint();
  return count;
}

// ---- the window

export function zoom(factor, about) {
  const { view } = easel;
  const side = (length, most) => Math.round(Math.min(most, MOST_PX, Math.max(Math.min(LEAST_PX, most), length * factor)));
  const next = { width: side(view.width, easel.width), height: side(view.height, easel.height) };
  if (next.width === view.width && next.height === view.height) return false;
  const share = { x: (about.x - view.x) / view.width, y: (about.y - view.y) / view.height };
  return show({ ...next, x: Math.round(about.x - share.x * next.width), y: Math.round(about.y - share.y * next.height) });
}

export function move(dx, dy) {
  return show({ ...easel.view, x: easel.view.x + Math.round(dx), y: easel.view.y + Math.round(dy) });
}

export function show(view) {
  const x = Math.min(Math.max(0, view.x), easel.width - view.width);
  const y = Math.min(Math.max(0, view.y), easel.height - view.height);
  easel.view = { x, y, width: view.width, height: view.height };
  paint();
  return true;
}

export function place(event) {
  const box = canvas.getBoundingClientRect();
  const { view } = easel;
  return { x: view.x + ((event.clientX - box.left) * view.width) / box.width, y: view.y + ((event.clientY - box.top) * view.height) / box.height };
}

// The whole part, or as much of it about a place as a canvas bears.
export function wholeAbout(about) {
  const [width, height] = [Math.min(easel.width, MOST_PX), Math.min(easel.height, MOST_PX)];
  return { x: Math.round(about.x - width / 2), y: Math.round(about.y - height / 2), width, height };
}

// The mask as a PNG in base64, and the region that it is of: all that is marked now or was at first. Null for an empty one.
export function exported() {
  const { mask, start, width, height } = easel;
  let [left, top, right, bottom, count] = [width, height, -1, -1, 0];
  for (let at = 0; at < mask.length; at += 1) {
    if (!mask[at] && !start[at]) continue;
    const [x, y] = [at % width, Math.floor(at / width)];
    [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
    count += mask[at];
  }
  if (!count) return null;
  const box = { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
  const flat = document.createElement("canvas");
  Object.assign(flat, { width: box.width, height: box.height });
  const ink = flat.getContext("2d");
  const grey = ink.createImageData(box.width, box.height);
  const pixels = new Uint32Array(grey.data.buffer);
  for (let row = 0; row < box.height; row += 1) {
    const from = (top + row) * width + left;
    for (let column = 0; column < box.width; column += 1) pixels[row * box.width + column] = mask[from + column] ? 0xffffffff : 0xff000000;
  }
  ink.putImageData(grey, 0, 0);
  return { mask: flat.toDataURL("image/png").split(",")[1], box };
}
