// What the set of seeds lacks, class by class.

import { element, get } from "./common.js";

export async function showLacks(box, recipe) {
  let found;
  try {
    found = await get("/api/seeds/lacks", { recipe });
  } catch (error) {
    box.replaceChildren(element("p", { class: "dim" }, error.message));
    return;
  }
  box.replaceChildren(...found.classes.map((one) => element("div", { class: "lack" },
    element("p", {}, element("b", {}, one.defect_class), element("span", { class: one.ready ? "enough" : "short" }, `${one.usable} ${one.usable === 1 ? "seed" : "seeds"}`)),
    element("ul", {}, ...one.lacks.filter((lack) => lack.kind !== "waiting").map((lack) => element("li", { class: lack.blocking ? "short" : "" }, lack.message))))));
}
