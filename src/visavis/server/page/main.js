// The page: its address says what is asked, and everything follows from that.

import { Problem, get, onKeyNeeded, pictureForm, post, show, thumbnail } from "./api.js";
import { closeDetail, detailOpen, listenInDetail, openDetail } from "./detail.js";
import { byId, h, message } from "./dom.js";
import { counted } from "./format.js";
import { fillForm, focusSentence, limitSentence, listenToForm, unfiltered } from "./form.js";
import { askForKey } from "./key.js";
import { howFound, pictureGrid, placeholders, sentenceList } from "./results.js";
import { DEFAULTS, SENT, filterCount, formatState, parseState, sameQuestion, searchBody, whereOf } from "./state.js";
import { takePictures } from "./upload.js";

const MORE = 24;
let state = parseState(location.search);
let answered = null; // the state whose answer is shown
let hits = []; // the pictures that are shown
let about = null; // what is searched, as the service says
let sent = null; // a picture of this computer that asks
let sentUrl = "";
let underWay = null;
let opener = null; // where the focus goes when the view of a picture is closed

// ---- the address

function go(changes, { replace = false } = {}) {
  state = { ...state, ...changes };
  const address = `${location.pathname}${formatState(state)}`;
  if (replace) history.replaceState({ ours: true }, "", address);
  else history.pushState({ ours: true }, "", address);
  render();
}

const hrefOf = (changes) => `/${formatState({ ...state, ...changes })}`;

addEventListener("popstate", () => {
  state = parseState(location.search);
  render();
});

// ---- the answer

async function render() {
  fillForm(state);
  const asks = Boolean(state.q || state.like);
  document.body.classList.toggle("start", !asks);
  document.title = state.q ? `${state.q} · visavis` : "visavis";
  showAsking();
  if (!asks) {
    underWay?.abort();
    answered = null;
    clear();
  } else if (!answered || !sameQuestion(answered, state)) {
    await answer();
  }
  renderView();
}

function clear() {
  hits = [];
  byId("status").replaceChildren();
  byId("notice").replaceChildren();
  byId("answer").replaceChildren();
  document.body.classList.remove("busy");
}

async function answer() {
  underWay?.abort();
  const mine = new AbortController();
  underWay = mine;
  const question = state;
  const grows = answered && sameQuestion({ ...answered, k: 0 }, { ...question, k: 0 });
  document.body.classList.add("busy");
  const place = byId("answer");
  if (!grows && (!place.firstChild || place.querySelector(".message"))) {
    place.replaceChildren(placeholders(question.like && question.tab === "sentences" ? 0 : 12));
  }
  try {
    const found = await ask(question, mine.signal);
    if (mine.signal.aborted) return;
    answered = question;
    present(question, found, grows);
  } catch (error) {
    if (error.name === "AbortError") return;
    answered = null;
    fail(error);
  } finally {
    if (underWay === mine) document.body.classList.remove("busy");
  }
}

function ask(question, signal) {
  if (!question.like) return post("/v1/search", searchBody(question), signal);
  if (question.like === SENT && !sent) {
    throw new Problem(0, "That picture lies on a computer, not here. Drop it again.");
  }
  const file = question.like === SENT ? sent : null;
  return question.tab === "pictures"
    ? post("/v1/search/image", pictureForm(question.like, file, question.k, whereOf(question)), signal)
    : post("/v1/captions", pictureForm(question.like, file, question.k), signal);
}

function present(question, found, grows) {
  const kind = question.like && question.tab === "sentences" ? "sentences" : "pictures";
  hits = kind === "pictures" ? found.results : [];
  byId("status").replaceChildren(...howFound(found, kind));
  byId("notice").replaceChildren();
  if (found.matches_well === false && found.results.length) {
    byId("notice").replaceChildren(h("p", { class: "notice" },
      h("strong", {}, "Nothing here matches well."),
      ` These are the nearest of ${counted(found.gallery, "picture")}.`));
  }
  const place = byId("answer");
  if (!found.results.length) {
    place.replaceChildren(nothing(question));
    return;
  }
  const shown = grows ? place.querySelectorAll(".grid > li").length : 0;
  place.replaceChildren(
    kind === "sentences"
      ? sentenceList(found.results, {
        hrefOf: (text) => `/${formatState({ ...DEFAULTS, q: text })}`,
        follow: (text) => go({ ...DEFAULTS, q: text }),
      })
      : pictureGrid(hits, { hrefOf: (id) => hrefOf({ view: id }), open: (hit, link) => view(hit.id, link) }),
    more(question, found),
  );
  if (shown) place.querySelectorAll(".grid > li > a")[shown]?.focus({ preventScroll: true });
}

function more(question, found) {
  const limit = about?.limits.results ?? 200;
  if (found.results.length < question.k || question.k >= limit) return "";
  return h("p", { class: "more" },
    h("button", { type: "button", class: "plain", onclick: () => go({ k: Math.min(limit, question.k + MORE) }, { replace: true }) }, "More"));
}

function nothing(question) {
  if (filterCount(question) > 0) {
    return message("No picture passes the filters", "Loosen them, or take them away.",
      h("button", { type: "button", class: "go", onclick: () => go(unfiltered()) }, "Clear filters"));
  }
  return message("Nothing to find", "The index holds nothing that could be an answer.");
}

function fail(error) {
  hits = [];
  byId("status").replaceChildren();
  byId("notice").replaceChildren();
  const known = error instanceof Problem;
  const again = known && [401, 408, 429, 503, 504, 0].includes(error.status);
  const button = again && state.like !== SENT
    ? [h("button", { type: "button", class: "go", onclick: () => answer().then(renderView) }, "Try again")] : [];
  const title = known && [409, 415, 422].includes(error.status) ? "That cannot be asked" : "No answer";
  byId("answer").replaceChildren(message(title, known ? error.message : "Something went wrong in this page.", ...button));
  if (!known) throw error;
}

// ---- a picture that asks

function showAsking() {
  const place = byId("asked");
  place.hidden = !state.like;
  if (!state.like) return;
  const image = h("img", { alt: "The picture that asks" });
  if (state.like === SENT) image.src = sentUrl;
  else show(image, thumbnail(state.like, 320));
  const tab = (name, text) => h("button", {
    type: "button", role: "tab", "aria-selected": String(state.tab === name), "data-tab": name,
    tabindex: state.tab === name ? "0" : "-1", onclick: () => go({ tab: name, k: DEFAULTS.k }),
  }, text);
  const tabs = h("div", { role: "tablist", "aria-label": "What the picture asks for" },
    tab("sentences", "Sentences"), tab("pictures", "Pictures like it"));
  tabs.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    go({ tab: state.tab === "sentences" ? "pictures" : "sentences", k: DEFAULTS.k });
    byId("asked").querySelector('[aria-selected="true"]').focus();
  });
  place.replaceChildren(state.like === SENT && !sent ? "" : image,
    h("div", {}, tabs, h("button", { type: "button", class: "plain", onclick: () => go({ ...DEFAULTS }) }, "Take it away")));
}

function takeSent(file) {
  if (about && file.size > about.limits.upload_megabytes * 1e6) {
    refuse(`That file is larger than ${about.limits.upload_megabytes} megabytes.`);
    return;
  }
  if (sentUrl) URL.revokeObjectURL(sentUrl);
  sent = file;
  sentUrl = URL.createObjectURL(file);
  answered = null; // another picture under the same address
  closeDetail();
  go({ ...DEFAULTS, like: SENT });
}

function refuse(text) {
  byId("notice").replaceChildren(h("p", { class: "notice" }, text));
}

// ---- one picture by itself

function view(id, link) {
  opener = link ?? null;
  go({ view: id });
}

function renderView() {
  if (!state.view) {
    if (detailOpen()) {
      closeDetail();
      const back = document.contains(opener) ? opener : document.querySelector(`.grid a[data-id]`);
      back?.focus({ preventScroll: false });
    }
    return;
  }
  const index = hits.findIndex(({ id }) => id === state.view);
  const hit = index >= 0 ? hits[index] : { id: state.view };
  openDetail(hit, state.q, {
    close: leave,
    step,
    like: (id, tab) => {
      closeDetail();
      go({ ...DEFAULTS, like: id, tab });
    },
    place: index >= 0 ? { index, count: hits.length } : null,
  });
}

function leave() {
  go({ view: "" });
}

function step(by) {
  const next = hits[hits.findIndex(({ id }) => id === state.view) + by];
  if (!next) return;
  opener = document.querySelector(`.grid a[data-id="${CSS.escape(next.id)}"]`);
  go({ view: next.id }, { replace: true });
}

// ---- beginning

onKeyNeeded(askForKey);

async function introduce() {
  about = await get("/v1/index");
  const sizes = [counted(about.images, "picture")];
  if (about.sentences) sizes.push(counted(about.sentences, "sentence"));
  byId("gallery").textContent = [...sizes, about.model].join(" · ");
  limitSentence(about.limits.query_characters);
}

listenToForm({
  submit: (asked) => {
    if (sameQuestion(asked, state)) answered = null; // asked again: answered again
    go(asked);
  },
  filter: (changes) => {
    state = { ...state, ...changes };
    if (state.q || state.like) go({ k: DEFAULTS.k });
    else fillForm(state);
  },
});
listenInDetail({ close: leave, step });
takePictures(takeSent, refuse);
introduce().catch(() => {
  byId("gallery").textContent = "The index is not ready yet.";
}).finally(render);
if (!state.q && !state.like && matchMedia("(pointer: fine)").matches) focusSentence();
