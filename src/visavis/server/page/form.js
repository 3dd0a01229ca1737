// The sentence box and the filters.

import { byId } from "./dom.js";
import { DEFAULTS, FILTERS, filterCount } from "./state.js";

const TEXTS = ["q", ...FILTERS, "candidates"];
const form = byId("ask");

/** Show in the form what is asked. What is being typed is left alone. */
export function fillForm(state) {
  for (const name of TEXTS) {
    const field = form.elements[name];
    if (name === "q" && document.activeElement === field && !state.like) continue;
    field.value = state[name];
  }
  form.elements.exact.checked = state.exact;
  form.elements.candidates.disabled = state.exact;
  const count = filterCount(state);
  byId("active-filters").hidden = count === 0;
  byId("active-filters").textContent = String(count);
  byId("clear-filters").hidden = count === 0;
}

/** What the form asks. */
function asked() {
  const given = Object.fromEntries(TEXTS.map((name) => [name, form.elements[name].value.trim()]));
  return { ...DEFAULTS, ...given, exact: form.elements.exact.checked };
}

/** The state of no filter. */
export const unfiltered = () =>
  ({ ...Object.fromEntries([...FILTERS, "candidates"].map((name) => [name, ""])), exact: false });

/** Call `submit(state)` for a sentence that is sent off and `filter(changes)` for a changed filter. */
export function listenToForm({ submit, filter }) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const state = asked();
    if (state.q) submit(state);
    else form.elements.q.focus();
  });
  byId("options").addEventListener("change", () => {
    const { q: _, ...changes } = asked();
    filter(Object.fromEntries(Object.keys(unfiltered()).map((name) => [name, changes[name]])));
  });
  byId("clear-filters").addEventListener("click", () => filter(unfiltered()));
  byId("more-options").addEventListener("click", () => {
    const options = byId("options");
    options.hidden = !options.hidden;
    byId("more-options").setAttribute("aria-expanded", String(!options.hidden));
  });
  addEventListener("keydown", (event) => {
    const writes = event.target.closest?.("input, select, textarea, dialog");
    const box = form.elements.q;
    if (event.key === "/" && !writes && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      box.focus();
      box.select();
    } else if (event.target === box && (event.key === "Escape" || event.key === "ArrowDown")) {
      const first = document.querySelector('.grid a[tabindex="0"], .sentences a');
      if (!first) return;
      event.preventDefault();
      first.focus();
    }
  });
}

/** The longest sentence that is taken. */
export function limitSentence(characters) {
  form.elements.q.maxLength = characters;
}

export const focusSentence = () => form.elements.q.focus();
