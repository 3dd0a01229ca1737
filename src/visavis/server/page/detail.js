// One picture by itself: why it was found, what it is, where to go from it.

import { Problem, post, show, thumbnail } from "./api.js";
import { byId, h, style } from "./dom.js";
import { scoreText, takenText } from "./format.js";
import { legend, lightUp } from "./light.js";

let release = () => false; // lets go of a pinned word
let asked = null; // the explanation under way

/**
 * Show a picture.
 * `hit` has at least an id; `query` is the sentence that is explained, empty for none;
 * `go` has `close()`, `step(by)`, `like(id, tab)` and `place` with where the picture stands.
 */
export function openDetail(hit, query, go) {
  const dialog = byId("detail");
  asked?.abort();
  asked = new AbortController();
  release = () => false;
  const image = h("img", { alt: hit.path ? `The picture ${hit.path}` : "The picture" });
  const frame = h("div", { class: "frame" }, image);
  const ratio = hit.width && hit.height ? hit.width / hit.height : 1.5;
  style(frame, { "--ratio": ratio.toFixed(4) });
  image.addEventListener("load", () => {
    style(frame, { "--ratio": (image.naturalWidth / image.naturalHeight).toFixed(4) });
    frame.classList.add("there");
  });
  image.addEventListener("error", () => frame.classList.add("missing"));
  show(image, thumbnail(hit.id, 1280));
  const reason = h("section", { class: "why", "aria-label": "Why it was found" });
  dialog.replaceChildren(
    h("div", { class: "sight" }, frame, steps(go)),
    h("div", { class: "side" }, head(hit, go), reason, facts(hit), actions(hit, go)),
  );
  if (!dialog.open) dialog.showModal();
  dialog.querySelector(".close").focus({ focusVisible: false });
  if (query) explain(hit, query, reason, frame, asked.signal);
}

/** Whether the view is open. */
export const detailOpen = () => byId("detail").open;

/** Close the view. */
export function closeDetail() {
  asked?.abort();
  if (detailOpen()) byId("detail").close();
}

/** Answer Escape and the arrow keys in the view. */
export function listenInDetail({ close, step }) {
  const dialog = byId("detail");
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    if (!release()) close();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target.closest(".words")) return moveAmongWords(event);
    if (event.key === "ArrowRight") step(1);
    else if (event.key === "ArrowLeft") step(-1);
    return undefined;
  });
}

function moveAmongWords(event) {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  const words = [...event.currentTarget.querySelectorAll(".word")];
  words[words.indexOf(event.target.closest(".word")) + by]?.focus({ focusVisible: true });
}

function head(hit, go) {
  return h("header", {},
    h("h2", { id: "detail-title" }, hit.path ? nameOf(hit.path) : "Picture"),
    hit.score === undefined ? "" : h("span", { class: "score" }, scoreText(hit.score)),
    h("button", { type: "button", class: "close round", "aria-label": "Close (Escape)", onclick: go.close }, "×"));
}

const nameOf = (path) => path.split("/").at(-1);

function steps(go) {
  const button = (by, sign, name) =>
    h("button", {
      type: "button", class: `round step ${by < 0 ? "before" : "after"}`, "aria-label": name,
      disabled: !go.place || go.place.index + by < 0 || go.place.index + by >= go.place.count,
      onclick: () => go.step(by),
    }, sign);
  return h("div", { class: "steps" }, button(-1, "‹", "Picture before"), button(1, "›", "Next picture"));
}

function facts(hit) {
  const rows = [
    ["File", hit.path],
    ["Rank", hit.rank],
    ["Size", hit.width ? `${hit.width} × ${hit.height}` : null],
    ["Taken", takenText(hit.taken)],
    ["Tags", hit.tags?.join(", ")],
    ["First stage", typeof hit.first_score === "number" ? scoreText(hit.first_score) : null],
  ].filter(([, value]) => value);
  if (!rows.length) return "";
  return h("dl", { class: "facts" },
    ...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))));
}

function actions(hit, go) {
  return h("div", { class: "actions" },
    h("button", { type: "button", class: "plain", onclick: () => go.like(hit.id, "pictures") }, "Pictures like this"),
    h("button", { type: "button", class: "plain", onclick: () => go.like(hit.id, "sentences") }, "Its sentences"),
    h("a", { class: "plain", href: `/v1/images/${encodeURIComponent(hit.id)}`, target: "_blank", rel: "noopener" }, "The file"));
}

async function explain(hit, query, place, frame, signal) {
  place.replaceChildren(h("p", { class: "words waiting", "aria-busy": "true" }, query));
  let why;
  try {
    why = await post("/v1/explain", { id: hit.id, query }, signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    const text = error instanceof Problem ? error.message : "This cannot be explained.";
    place.replaceChildren(h("p", { class: "words" }, query), h("p", { class: "soft" }, text));
    return;
  }
  const lit = lightUp(why, frame);
  frame.querySelector(".regions")?.remove();
  frame.append(lit.layer);
  release = lit.release;
  place.replaceChildren(
    h("p", { class: "words", role: "group", "aria-label": "Words of the sentence" },
      ...lit.words.flatMap((word) => [word, " "])),
    lit.line,
    legend(why),
  );
}

