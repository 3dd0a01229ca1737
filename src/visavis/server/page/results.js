// What was found: pictures in rows, sentences in a list, and how it came about.

import { show, thumbnail } from "./api.js";
import { bar, h, neighbour, style } from "./dom.js";
import { counted, scoreText, stageParts, thousands } from "./format.js";
import { barsOf } from "./weights.js";

/**
 * Pictures in rows of one height, best first. Arrow keys go from one to the next.
 * `hrefOf(id)` is the address of a picture's view; `open(hit, link)` is called instead of following it.
 */
export function pictureGrid(results, { hrefOf, open }) {
  const bars = barsOf(results.map(({ score }) => score));
  const links = [];
  const items = results.map((hit, place) => {
    const link = h(
      "a",
      {
        href: hrefOf(hit.id),
        tabindex: place === 0 ? "0" : "-1",
        "data-id": hit.id,
        "aria-label": `Picture ${hit.rank}, ${hit.path}, score ${scoreText(hit.score)}`,
        onclick: (event) => {
          if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
          event.preventDefault();
          open(hit, link);
        },
      },
      frame(hit, place),
      h("span", { class: "facts" }, h("span", { class: "rank" }, String(hit.rank)), bar(bars[place]),
        h("span", { class: "score" }, scoreText(hit.score))),
    );
    links.push(link);
    return style(h("li", {}, link), { "--ratio": ratioOf(hit).toFixed(4) });
  });
  const grid = h("ol", { class: "grid", "aria-label": "Pictures, best first" }, ...items);
  grid.addEventListener("keydown", (event) => moveFocus(event, links));
  grid.addEventListener("focusin", (event) => {
    const current = event.target.closest("a");
    for (const link of links) link.tabIndex = link === current ? 0 : -1;
  });
  return grid;
}

/** Width by height, within what a row can show. */
export function ratioOf({ width, height }) {
  return Math.min(2.6, Math.max(0.5, width > 0 && height > 0 ? width / height : 1.5));
}

function frame(hit, place) {
  const image = h("img", {
    alt: "",
    loading: place < 12 ? "eager" : "lazy",
    decoding: "async",
    onload: () => holder.classList.add("there"),
    onerror: () => {
      holder.classList.add("missing");
      image.remove();
    },
  });
  const holder = h("span", { class: "picture" }, image);
  show(image, thumbnail(hit.id, ratioOf(hit) > 1.2 ? 480 : 320));
  return holder;
}

function moveFocus(event, links) {
  const current = event.target.closest("a");
  if (!current || event.altKey || event.ctrlKey || event.metaKey) return;
  const next = neighbour(links, current, event.key);
  if (!next) return;
  event.preventDefault();
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

/** Sentences, best first; each asks for its pictures when it is followed. */
export function sentenceList(results, { hrefOf, follow }) {
  const bars = barsOf(results.map(({ score }) => score));
  const items = results.map((hit, place) =>
    h("li", {},
      h("a", {
        href: hrefOf(hit.text),
        title: "Pictures for this sentence",
        onclick: (event) => {
          if (event.metaKey || event.ctrlKey || event.shiftKey) return;
          event.preventDefault();
          follow(hit.text);
        },
      }, hit.text),
      h("span", { class: "facts" }, bar(bars[place]),
        h("span", { class: "score" }, scoreText(hit.score)))));
  return h("ol", { class: "sentences", "aria-label": "Sentences, best first" }, ...items);
}

/** Grey places where pictures will be. */
export function placeholders(count) {
  const ratios = [1.5, 1.33, 0.75, 1.5, 1, 1.33, 1.5, 0.8, 1.4];
  const items = Array.from({ length: count }, (_, place) =>
    style(h("li", {}, h("span", { class: "picture" }), h("span", { class: "facts" })), {
      "--ratio": String(ratios[place % ratios.length]),
    }));
  return h("ol", { class: "grid waiting", "aria-hidden": "true" }, ...items);
}

/** How many were found and what each stage did, with a bar of the time. */
export function howFound(answer, kind) {
  const all = kind === "sentences" ? counted(answer.gallery, "sentence") : counted(answer.gallery, "picture");
  const parts = stageParts(answer.stages, answer.gallery);
  const times = parts.flatMap((part, place) => [
    place ? ", " : "",
    h("span", { class: `stage ${part.name}` }, part.text),
  ]);
  const strip = h("span", { class: "strip", "aria-hidden": "true" },
    ...parts.map((part) =>
      style(h("span", { class: part.name, title: part.text }), { "flex-grow": part.share.toFixed(4) })));
  const how = answer.exact && kind === "pictures" ? "every picture scored" : null;
  return [
    h("span", { class: "found" }, `${thousands(answer.results.length)} of ${all}`),
    how ? h("span", { class: "how" }, how) : "",
    h("span", { class: "times" }, ...times),
    strip,
  ];
}
