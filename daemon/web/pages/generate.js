// The form that asks for candidates. It sends what was written: the trainer says what can't be asked, in one sentence.

import { $, askName, element, get, post, recipeChoice, reviewer } from "./common.js";

const form = $("generate");
let recipe = recipeChoice((chosen) => {
  recipe = chosen;
  listClasses();
});

async function listClasses() {
  if (!recipe) return;
  try {
    const { classes } = await get("/api/jobs/classes", { recipe });
    $("classes").replaceChildren(...classes.map(({ name, subsurface }) => element("label", { class: "check" },
      element("input", { type: "checkbox", name: "class", value: name }), ` ${name}`,
      ...(subsurface ? [element("span", { class: "warn" }, " below the surface: never learned from candidates alone")] : []))));
  } catch (error) {
    $("generate-problem").textContent = error.message;
  }
}

// A number as such, anything else as it was written, for the trainer to refuse.
const number = (text) => (Number.isFinite(Number(text)) ? Number(text) : text);

function asked() {
  const fields = new FormData(form);
  const ranged = (name) => fields.get(name).trim() && `${fields.get(name).trim()} ${fields.get(`${name}_unit`)}`;
  const body = {
    recipe, arm: fields.get("arm"), classes: fields.getAll("class"), stale: fields.get("stale") !== null,
    severity: ranged("severity"), size: ranged("size"),
    orientation: fields.get("orientation"), count: fields.get("count"), zones: fields.get("zones"), plan: fields.get("plan"),
  };
  for (const name of ["per_class", "random_seed", "planted_bad"]) {
    if (fields.get(name).trim() !== "") body[name] = number(fields.get(name));
  }
  return body;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button[type=submit]");
  if (!reviewer && !(await askName())) return;
  button.disabled = true;
  try {
    const answer = await post("/api/jobs/generate", asked());
    $("generate-problem").textContent = "";
    $("generation").open = false;
    const said = $("said");
    said.textContent = [`${answer.job_id} is queued.`, ...(answer.warnings || [])].join(" ");
    said.hidden = false;
  } catch (error) {
    $("generate-problem").textContent = error.message;
  }
  button.disabled = false;
});

$("plan-file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file) form.elements.plan.value = await file.text();
});

listClasses();
