// Pictures: loading ahead, laying an outline over them, and swapping them without a flicker.

import { svg } from "./common.js";

const loaded = new Map();
const KEPT = 600;

// Resolves with a decoded <img>. Asking twice gives the same one: an address holds the digest of its pixels.
export function load(address) {
  let promise = loaded.get(address);
  if (!promise) {
    promise = new Promise((done, failed) => {
      const image = new Image();
      image.decoding = "sync";
      image.onload = () => done(image);
      image.onerror = () => {
        loaded.delete(address);
        failed(new Error("a picture could not be loaded; see the journal of inspectd-web"));
      };
      image.src = address;
    });
    loaded.set(address, promise);
    if (loaded.size > KEPT) loaded.delete(loaded.keys().next().value);
  }
  return promise;
}

// Shows a loaded picture in a .picture box with an overlay in the picture's own pixels.
export async function put(box, address, region, outline, options = {}) {
  const image = await load(address);
  const shown = image.cloneNode();
  shown.alt = options.alt || "";
  shown.draggable = false;
  box.querySelector(".layer").replaceChildren(shown);
  overlay(box, region, outline, options);
}

export function overlay(box, region, outline, options = {}) {
  const layer = box.querySelector("svg.overlay");
  layer.setAttribute("viewBox", `${region.x} ${region.y} ${region.width} ${region.height}`);
  layer.replaceChildren();
  if (outline) layer.append(svg("path", { d: outline, class: "casing" }), svg("path", { d: outline, class: "outline" }));
  if (options.frame) layer.append(svg("rect", { ...options.frame, class: "frame" }));
}

// True pixels once each is larger than three on the screen; below, the browser's smoothing.
export function sharpness(box, region) {
  const scale = Math.min(box.clientWidth / region.width, box.clientHeight / region.height);
  box.classList.toggle("sharp", scale >= 3);
  return scale;
}
