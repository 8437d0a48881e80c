// Jobs: what the trainer does, how far it is, and a way to stop it or go on.

import { $, askName, element, get, notice, post } from "./common.js";

const WORDS = { calibrate: "Calibrate", generate: "Generate", gap: "Gap", oddity: "Oddity", train: "Train" };

async function poll() {
  let wait = 1000;
  try {
    const { jobs } = await get("/api/jobs");
    notice("");
    const place = $("jobs");
    if (jobs.length) place.replaceChildren(...jobs.map(row));
    else place.replaceChildren(element("p", { class: "empty" }, "No job yet; calibrate first (inspectctl calibrate), then generate here."));
    place.setAttribute("aria-busy", "false");
  } catch (error) {
    notice(error.message);
    wait = 3000;
  }
  setTimeout(poll, document.hidden ? 5000 : wait);
}

function row(job) {
  const { progress } = job;
  const share = job.state === "done" ? 1 : progress && progress.total ? Math.min(1, progress.done / progress.total) : 0;
  const bar = element("div", { class: "track", role: "progressbar", "aria-valuenow": Math.round(100 * share) }, element("i"));
  bar.firstChild.style.width = `${100 * share}%`;
  const buttons = element("div", { class: "row" });
  if (job.can_pause) buttons.append(act("Pause", "/api/jobs/pause", job.job_id));
  if (job.can_cancel) buttons.append(act("Cancel", "/api/jobs/cancel", job.job_id));
  if (job.can_resume) buttons.append(act("Go on", "/api/jobs/resume", job.job_id));
  return element("article", { class: "job", "data-state": job.state },
    element("div", { class: "what" }, element("b", {}, WORDS[job.kind] || job.kind), element("span", {}, job.recipe_id),
      element("span", { class: "mono dim" }, job.job_id)),
    element("span", { class: "state" }, job.state),
    bar,
    element("p", { class: "note" }, job.error || told(job, progress)),
    ...((job.result && job.result.findings) || []).map((finding) => element("p", { class: "note finding" }, finding)),
    buttons);
}

function told(job, progress) {
  if (job.state === "queued") return "waits for its turn";
  if (!progress) return job.state === "running" ? "starting" : "";
  const parts = [progress.stage];
  if (progress.total) parts.push(`${progress.done} of ${progress.total}`);
  if (job.state === "running" && progress.per_second) parts.push(pace(job, progress.per_second));
  if (job.state === "running" && progress.seconds_left != null) parts.push(`${duration(progress.seconds_left)} left`);
  if (progress.note) parts.push(progress.note);
  return parts.join(" · ");
}

function pace(job, perSecond) {
  // The stages before count steps of the fits.
  if (job.kind === "generate" && job.progress.stage.startsWith("generate ")) return `${perSecond.toPrecision(2)} images per second`;
  return perSecond >= 1 ? `${perSecond.toPrecision(2)} per second` : `${(1 / perSecond).toPrecision(2)} s each`;
}

function duration(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function act(text, path, job) {
  const button = element("button", { type: "button", class: "small" }, text);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await post(path, { job_id: job });
    } catch (error) {
      if (error.kind === "name") await askName();
      notice(error.message);
      button.disabled = false;
    }
  });
  return button;
}

poll();
