// Words and regions of one picture: pointing at one lights up the other.

import { h, s, style } from "./dom.js";
import {
  percentOf, placeOf, regionAt, regionOrder, regionsOfWord, wordsOfRegion, worthOf,
} from "./weights.js";

/** The sentence's words as buttons, each with what it is worth. */
function wordButtons(why) {
  const worth = worthOf(why.word_scores);
  return why.words.map((word, place) => {
    const mark = h("span", { class: "worth", "aria-hidden": "true" });
    const button = h(
      "button",
      {
        type: "button",
        class: worth[place].against ? "word against" : "word",
        "aria-pressed": "false",
        "aria-label": `${word}: worth ${worth[place].text}`,
        "data-word": place,
      },
      h("span", { class: "text" }, word),
      h("span", { class: "number" }, worth[place].text),
      mark,
    );
    style(mark, { "--share": worth[place].share.toFixed(3) });
    return style(button, { "--lit": "0" });
  });
}

/** The regions as boxes over the picture; the arrow keys go from one to the next. */
function regionBoxes(why) {
  const boxes = why.boxes.map((box, region) =>
    style(
      h("button", { type: "button", class: "region", tabindex: "-1", "data-region": region },
        h("span", { class: "number" })),
      { ...placeOf(box), "--lit": "0" },
    ));
  return boxes;
}

/** A dark layer that lets the regions through, as far as each is lit. */
function shade(why) {
  const holes = why.boxes.map(([left, top, right, bottom]) =>
    s("rect", {
      x: 100 * left, y: 100 * top, width: 100 * (right - left), height: 100 * (bottom - top),
      fill: "#000", opacity: 0,
    }));
  const name = "lit-regions";
  const drawing = s(
    "svg",
    { class: "shade", viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("filter", { id: `${name}-soft`, x: "-5%", y: "-5%", width: "110%", height: "110%" },
      s("feGaussianBlur", { stdDeviation: 0.9 })),
    s("mask", { id: name },
      s("rect", { width: 100, height: 100, fill: "#fff" }),
      s("g", { filter: `url(#${name}-soft)` }, ...holes)),
    s("rect", { class: "dark", width: 100, height: 100, mask: `url(#${name})` }),
  );
  return { drawing, holes };
}

/** Something that shows how brightly regions and words are lit, told by maps of their places. */
function painter(why, frame, words, regions, holes) {
  const worth = worthOf(why.word_scores);
  return (litRegions, litWords) => {
    frame.classList.toggle("dimmed", litRegions.size > 0);
    regions.forEach((box, region) => {
      const lit = litRegions.get(region);
      style(box, { "--lit": String(lit?.share.toFixed(3) ?? 0) });
      box.classList.toggle("lit", Boolean(lit));
      box.classList.toggle("named", Boolean(lit?.named));
      box.firstChild.textContent = lit?.named ? percentOf(lit.weight) : "";
      holes[region].setAttribute("opacity", String(lit ? lit.share ** 1.5 : 0));
    });
    words.forEach((button, word) => {
      const lit = litWords.get(word);
      style(button, { "--lit": String(lit?.share.toFixed(3) ?? 0) });
      button.classList.toggle("lit", (lit?.share ?? 0) > 0.02);
      button.querySelector(".number").textContent = lit?.text ?? worth[word].text;
    });
  };
}

/** What one word looks at, in a line. */
function wordLine(why, word, found) {
  const name = `“${why.words[word]}”`;
  const does = why.kind === "attention" ? "looks at" : "rests on";
  if (!found.length) return `${name} has no region of its own`;
  if (found.length === 1) return `${name} ${does} one region: ${percentOf(found[0].weight)}`;
  const best = found.slice(0, 3).map(({ weight }) => percentOf(weight)).join(", ");
  return `${name} ${does} ${found.length} regions, most at ${best}`;
}

/** Which words look at one region, in a line. */
function regionLine(why, found) {
  const best = [...found].sort((one, other) => other.share - one.share).slice(0, 3)
    .filter(({ share }) => share > 0.3)
    .map(({ word, weight }) => `“${why.words[word]}” ${percentOf(weight)}`);
  return best.length ? `Here: ${best.join(", ")}` : "No word of the sentence looks here";
}

/** What pointing at something shows; `line` says it in words. */
function shows(why, paint, line) {
  const worth = worthOf(why.word_scores);
  return {
    word(word) {
      const found = regionsOfWord(why.weights[word], why.boxes);
      paint(new Map(found.map((lit) => [lit.region, lit])), new Map([[word, { share: 1, text: worth[word].text }]]));
      line.textContent = wordLine(why, word, found);
    },
    region(region) {
      const found = wordsOfRegion(why.weights, region);
      paint(new Map([[region, { share: 1, weight: 0, named: false }]]),
        new Map(found.map((lit) => [lit.word, { share: lit.share, text: percentOf(lit.weight) }])));
      line.textContent = regionLine(why, found);
    },
    nothing() {
      paint(new Map(), new Map());
      line.textContent = "Point at a word to see where it looks, or at the picture to see which words do.";
    },
  };
}

/**
 * Bring a picture and its explanation together.
 * Returns the words, the layer over the picture, a line that says what is lit, and `release()`,
 * which lets go of what is pinned and says whether there was anything.
 */
export function lightUp(why, frame) {
  const words = wordButtons(why);
  const regions = regionBoxes(why);
  const { drawing, holes } = shade(why);
  const line = h("p", { class: "lit-line soft", role: "status" });
  const show = shows(why, painter(why, frame, words, regions, holes), line);
  let pinned = null; // ["word" or "region", its place]
  const rest = () => {
    if (pinned) show[pinned[0]](pinned[1]);
    else show.nothing();
    words.forEach((button, word) =>
      button.setAttribute("aria-pressed", String(pinned?.[0] === "word" && pinned[1] === word)));
  };
  const pin = (kind, place) => {
    pinned = pinned?.[0] === kind && pinned[1] === place ? null : [kind, place];
    rest();
  };
  listenToWords(words, { show, rest, pin });
  listenToPicture(frame, why, { show, rest, pin });
  listenToRegions(regions, why, { show, rest });
  rest();
  const release = () => {
    const had = pinned !== null;
    pinned = null;
    rest();
    return had;
  };
  const layer = h("div", { class: "regions", role: "group", "aria-label": "Regions of the picture" },
    drawing, ...regions);
  return { words, line, layer, release };
}

function listenToWords(words, { show, rest, pin }) {
  words.forEach((button, word) => {
    button.addEventListener("pointerenter", (event) => {
      if (event.pointerType !== "touch") show.word(word);
    });
    button.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "touch") rest();
    });
    button.addEventListener("focus", () => {
      if (button.matches(":focus-visible")) show.word(word);
    });
    button.addEventListener("blur", rest);
    button.addEventListener("click", () => pin("word", word));
  });
}

function listenToPicture(frame, why, { show, rest, pin }) {
  const at = (event) => {
    const box = frame.getBoundingClientRect();
    return regionAt(why.boxes, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  };
  let last = -1;
  frame.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    const region = at(event);
    if (region === last) return;
    last = region;
    if (region < 0) rest();
    else show.region(region);
  });
  frame.addEventListener("pointerleave", () => {
    last = -1;
    rest();
  });
  frame.addEventListener("click", (event) => {
    const byKey = event.detail === 0; // Enter or space on a region that has the focus
    const region = byKey ? Number(event.target.closest(".region")?.dataset.region ?? -1) : at(event);
    if (region >= 0) pin("region", region);
  });
}

function listenToRegions(regions, why, { show, rest }) {
  const order = regionOrder(why.weights, regions.length);
  regions.forEach((box, region) => {
    const said = wordsOfRegion(why.weights, region)
      .filter(({ share }) => share > 0.5)
      .map(({ word, weight }) => `${why.words[word]} ${percentOf(weight)}`);
    box.setAttribute("aria-label", `Region ${order.indexOf(region) + 1}: ${said.join(", ") || "no word"}`);
    box.addEventListener("focus", () => {
      if (box.matches(":focus-visible")) show.region(region);
    });
    box.addEventListener("blur", rest);
    box.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const next = regions[order[(order.indexOf(region) + step + order.length) % order.length]];
      box.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  });
  if (regions.length) regions[order[0]].tabIndex = 0;
}

/** A legend for the numbers under the words. */
export function legend(why) {
  const looks = why.kind === "attention"
    ? "Light on the picture: how much the model looked there for the word."
    : "Light on the picture: what the score loses without the region.";
  return h("p", { class: "legend soft" }, looks,
    " Number and bar under a word: what the score loses without it.");
}
