// What is asked, as it stands in the address of the page. Nothing here touches the document.

export const DEFAULTS = Object.freeze({
  q: "", // a sentence that asks
  like: "", // or a picture: its id, or SENT for one of this computer
  tab: "sentences", // what a picture asks for: sentences, pictures
  from: "", to: "", tag: "", min: "", // filters
  candidates: "", exact: false,
  k: 24,
  view: "", // the picture that is looked at
});
export const SENT = "sent";
export const FILTERS = ["from", "to", "tag", "min"];
const TABS = ["sentences", "pictures"];
const DATE = /^\d{4}-\d{2}-\d{2}$/;
const ID = /^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$/;
const MOST = 10000;

/** The state that a query string says; what makes no sense in it is left out. */
export function parseState(search) {
  const given = new URLSearchParams(search);
  const text = (name) => given.get(name)?.trim() ?? "";
  const fits = (name, pattern) => (pattern.test(text(name)) ? text(name) : "");
  const whole = (name) => {
    const value = Number(text(name));
    return Number.isInteger(value) && value > 0 && value <= MOST ? value : 0;
  };
  return {
    q: text("q").slice(0, 1000),
    like: fits("like", ID),
    tab: TABS.includes(text("tab")) ? text("tab") : DEFAULTS.tab,
    from: fits("from", DATE),
    to: fits("to", DATE),
    tag: text("tag").slice(0, 80),
    min: String(whole("min") || ""),
    candidates: String(whole("candidates") || ""),
    exact: text("exact") === "1",
    k: whole("k") || DEFAULTS.k,
    view: fits("view", ID),
  };
}

/** The query string of a state: empty or beginning with a question mark, defaults left out. */
export function formatState(state) {
  const said = new URLSearchParams();
  for (const [name, usual] of Object.entries(DEFAULTS)) {
    const value = state[name] ?? usual;
    if (value !== usual) said.set(name, value === true ? "1" : String(value));
  }
  const text = said.toString();
  return text ? `?${text}` : "";
}

/** Whether two states ask the same, whatever is looked at. */
export function sameQuestion(one, other) {
  return formatState({ ...one, view: "" }) === formatState({ ...other, view: "" });
}

/** How many filters and switches are set. */
export function filterCount(state) {
  const set = [...FILTERS, "candidates"].filter((name) => state[name] !== "").length;
  return set + (state.exact ? 1 : 0);
}

const quoted = (text) => `'${text.replaceAll("'", "''")}'`;

/** The filters as a condition on the columns of the index, or null. */
export function whereOf(state) {
  const parts = [];
  if (state.from) parts.push(`taken >= ${quoted(state.from)}`);
  if (state.to) parts.push(`taken <= ${quoted(`${state.to}T23:59:59`)}`);
  if (state.tag) parts.push(`tag = ${quoted(state.tag)}`);
  if (state.min) parts.push(`width >= ${Number(state.min)}`);
  return parts.length ? parts.join(" AND ") : null;
}

/** What is sent to ask for pictures. */
export function searchBody(state) {
  const body = { query: state.q, k: state.k };
  const where = whereOf(state);
  if (where) body.where = where;
  if (state.candidates) body.candidates = Number(state.candidates);
  if (state.exact) body.exact = true;
  return body;
}
