// What the wand follows: how unlike good parts each pixel of a window is, as the server measured it.

import { notice } from "./common.js";

let known = { key: "", map: null };

// Resolves with {x, y, width, height, values, kind}: linear, 1 at the window's peak; kind is "anomaly", or "contrast" where
// there is no background model.
export async function mapOf(seed, recipe, view) {
  const window = `${view.x},${view.y},${view.width},${view.height}`;
  const key = `${seed.seed_id} ${window}`;
  if (known.key === key) return known.map;
  const response = await fetch(`/anomaly/${seed.image.path}?d=${seed.image.digest}&recipe=${encodeURIComponent(recipe)}&box=${window}`);
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).message || `the server answered ${response.status}`);
  const picture = await createImageBitmap(await response.blob());
  const board = document.createElement("canvas");
  Object.assign(board, { width: view.width, height: view.height });
  const ink = board.getContext("2d", { willReadFrequently: true });
  ink.drawImage(picture, 0, 0);
  const { data } = ink.getImageData(0, 0, view.width, view.height);
  // The picture has square roots.
  const values = new Float32Array(view.width * view.height);
  for (let at = 0; at < values.length; at += 1) values[at] = (data[4 * at] / 255) ** 2;
  known = { key, map: { ...view, values, kind: response.headers.get("x-map") } };
  return known.map;
}

// Paints a map once it is there, when it is still wanted then.
export async function showMap(canvas, asked, wanted) {
  try {
    const map = await asked;
    if (!wanted()) return;
    paint(canvas, map);
    notice(map.kind === "contrast" ? "There is no background model yet: contrast against the surroundings is shown instead of anomaly." : "", "hint");
  } catch (error) {
    notice(error.message);
  }
}

function paint(canvas, map) {
  Object.assign(canvas, { width: map.width, height: map.height });
  const ink = canvas.getContext("2d");
  const picture = ink.createImageData(map.width, map.height);
  map.values.forEach((value, at) => picture.data.set([255, 60 + 150 * value, 40, 250 * value ** 0.8], 4 * at));
  ink.putImageData(picture, 0, 0);
}
