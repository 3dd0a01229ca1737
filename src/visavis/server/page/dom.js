// Building and moving parts of the document.

/** An element: `h("p", {class: "soft", onclick: f}, "text", child)`. Attributes of null are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** An element of a drawing. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** Set properties of an element's style; the page's policy allows no style attributes. */
export function style(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value);
  return element;
}

export const byId = (id) => document.getElementById(id);

/** A bar for a share from 0 to 1. A number always stands beside it. */
export function bar(share) {
  return style(h("span", { class: "bar", "aria-hidden": "true" }, h("span")), {
    "--share": Math.max(0, Math.min(1, share)).toFixed(4),
  });
}

/** A message in place of an answer. */
export function message(title, text, ...actions) {
  return h("div", { class: "message" }, h("h2", {}, title), h("p", { class: "soft" }, text), ...actions);
}

/**
 * The element to go to with an arrow key among elements laid out in rows, or null.
 * Up and down go to the nearest one in the next row.
 */
export function neighbour(elements, current, key) {
  const place = elements.indexOf(current);
  if (key === "ArrowRight") return elements[place + 1] ?? null;
  if (key === "ArrowLeft") return elements[place - 1] ?? null;
  if (key === "Home") return elements[0] ?? null;
  if (key === "End") return elements.at(-1) ?? null;
  if (key !== "ArrowUp" && key !== "ArrowDown") return null;
  const here = current.getBoundingClientRect();
  const middle = here.left + here.width / 2;
  const boxes = elements.map((element) => ({ element, box: element.getBoundingClientRect() }));
  const beyond = boxes.filter(({ box }) =>
    key === "ArrowDown" ? box.top > here.top + 1 : box.top < here.top - 1);
  if (!beyond.length) return null;
  const tops = beyond.map(({ box }) => box.top);
  const row = key === "ArrowDown" ? Math.min(...tops) : Math.max(...tops);
  const distance = ({ box }) => Math.abs(box.left + box.width / 2 - middle);
  return beyond
    .filter(({ box }) => Math.abs(box.top - row) <= 1)
    .sort((one, other) => distance(one) - distance(other))[0].element;
}
