// The frame of the easel: which pixels of a part it shows, how large, and what else is marked there.

import { svg } from "./common.js";

// The address of a window of a channel, stretched as the channel's whole picture is.
export function address(seed, channel, view) {
  const { image } = seed;
  const { low, high } = channel.ranges.stretched;
  return `/pixels/${image.path}?d=${image.digest}&c=${channel.index}&lo=${low}&hi=${high}&box=${view.x},${view.y},${view.width},${view.height}`;
}

// The box has the view's own shape, so that the canvas, the picture and the pointer agree to the pixel.
export function fit(box, view) {
  const room = box.parentElement;
  const scale = Math.min(room.clientWidth / view.width, room.clientHeight / view.height);
  box.style.width = `${Math.max(1, Math.floor(view.width * scale))}px`;
  box.style.height = `${Math.max(1, Math.floor(view.height * scale))}px`;
}

// The other defects of the picture, in blue.
export function outlines(box, seed, view) {
  const layer = box.querySelector("svg.overlay");
  layer.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
  for (const sibling of seed.siblings) {
    layer.append(svg("path", { d: sibling.outline, class: "casing" }), svg("path", { d: sibling.outline, class: "sibling" }));
  }
}
