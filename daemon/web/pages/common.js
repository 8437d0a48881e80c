// What every page's script uses: requests, the reviewer's name, notices, small DOM helpers.

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;
export const $ = (id) => document.getElementById(id);
export let reviewer = meta("reviewer");

export class Refused extends Error {
  constructor(status, kind, message) {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}

async function answer(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // Not ours: said below by the status alone.
  }
  if (!response.ok) throw new Refused(response.status, body.error || "", body.message || `the server answered ${response.status}`);
  return body;
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw new Refused(0, "offline", "inspectd-web does not answer; is it running? (systemctl status inspectd-web)");
  }
}

export async function get(path, values = {}) {
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value != null));
  return answer(await reach(`${path}?${query}`, { headers: { accept: "application/json" } }));
}

export async function post(path, body) {
  const headers = { "content-type": "application/json", "x-csrf-token": meta("csrf") };
  return answer(await reach(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

// Says one sentence at the top of the page until it is cleared; errors stay until what failed works again.
export function notice(message, kind = "error") {
  const box = $("notice");
  box.textContent = message;
  box.dataset.kind = kind;
  box.hidden = !message;
}

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function figures(value) {
  if (value == null || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 100000)) return value.toExponential(1);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : size >= 1 ? value.toFixed(2) : value.toFixed(3);
}

export function askName() {
  const dialog = $("name-dialog");
  const field = $("name-field");
  return new Promise((done) => {
    dialog.querySelector("form").onsubmit = async (event) => {
      event.preventDefault();
      try {
        reviewer = (await post("/api/reviewer", { name: field.value })).reviewer;
      } catch (error) {
        $("name-problem").textContent = error.message;
        return;
      }
      $("who").textContent = reviewer;
      dialog.close();
      done(reviewer);
    };
    // Nothing can be decided without a name, but everything may be looked at: Escape only closes.
    dialog.oncancel = () => done("");
    if (!dialog.open) dialog.showModal();
    field.focus();
    field.select();
  });
}

export function typing(event) {
  const tag = event.target.tagName;
  return event.ctrlKey || event.metaKey || event.altKey || tag === "INPUT" || tag === "TEXTAREA" || tag === "SELECT"
    || document.querySelector("dialog[open]") !== null;
}

// The recipe chosen is kept in the address, so that a page can be linked to and loaded again.
export function recipeChoice(changed) {
  const select = $("recipe");
  const asked = new URLSearchParams(location.search).get("recipe");
  if (asked && [...select.options].some((option) => option.value === asked)) select.value = asked;
  select.addEventListener("change", () => {
    const address = new URL(location.href);
    address.searchParams.set("recipe", select.value);
    history.replaceState(null, "", address);
    select.blur();
    changed(select.value);
  });
  return select.value;
}

$("who").addEventListener("click", askName);
