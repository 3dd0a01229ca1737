"""Style and script of the contact sheet's page. Both are part of the page; nothing is fetched."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --back: #ffffff; --panel: #f6f8fa; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de;
  --right: #116329; --wrong: #a40e26; --later: #7d4e00; --lit: #fff3bf; --focus: #0550ae;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #0d1117; --panel: #161b22; --ink: #e6edf3; --soft: #9da7b1; --line: #30363d;
    --right: #56d364; --wrong: #ff8f87; --later: #e3b341; --lit: #5a4a00; --focus: #79c0ff;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem; max-width: 90rem; background: var(--back); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word;
}
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; line-height: 1.4; margin: 0 0 .75rem; }
.note { color: var(--soft); margin: 0 0 .5rem; max-width: 60rem; }
.row { border-top: 1px solid var(--line); padding: 1.25rem 0; }
.number { color: var(--soft); font-weight: normal; margin-right: .35rem; }
ol { list-style: none; margin: 0; padding: 0; }
.pictures {
  display: grid; gap: .9rem; grid-template-columns: repeat(auto-fill, minmax(15.5rem, 1fr));
}
.pictures li, .sentences li {
  background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: .5rem;
}
.pictures li.right, .sentences li.right { border-color: var(--right); box-shadow: 0 0 0 2px var(--right); }
.pictures li.wrong { border-color: var(--wrong); box-shadow: 0 0 0 2px var(--wrong); }
.sentences li.right .text { color: var(--right); }
.later { color: var(--later); margin: .6rem 0 0; }
ol.later { margin: 0; }
figure { margin: 0; }
.frame { position: relative; margin: 0 auto; width: fit-content; max-width: 100%; }
.frame img { display: block; max-width: 100%; height: auto; border-radius: .25rem; }
.frame svg { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.frame text { font-family: system-ui, sans-serif; }
.marks { display: none; }
.marks.on { display: inline; }
.facts { display: flex; flex-wrap: wrap; gap: .1rem .6rem; align-items: baseline; margin-top: .4rem; }
.rank { font-weight: bold; }
.verdict { font-weight: bold; }
.verdict.right { color: var(--right); }
.verdict.wrong { color: var(--wrong); }
.score { margin-left: auto; font-variant-numeric: tabular-nums; }
.name { flex-basis: 100%; color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }
.answer { display: grid; gap: 1rem; grid-template-columns: minmax(0, 20rem) minmax(0, 1fr); align-items: start; }
.sentences { display: grid; gap: .6rem; }
.sentences .text { flex-basis: 100%; }
.figure { max-width: 100%; height: auto; }
button.word {
  font: inherit; color: inherit; background: none; border: 0; border-radius: .2rem; cursor: pointer;
  padding: .1em .05em; margin: 0; text-align: inherit;
  text-decoration: underline dotted; text-underline-offset: .25em;
}
button.word.lit { background: var(--lit); }
button.word[aria-pressed="true"] { text-decoration-style: solid; }
button.word:focus-visible { outline: 2px solid var(--focus); outline-offset: 1px; }
@media (max-width: 44rem) {
  body { padding: .75rem; }
  .pictures {
    grid-auto-flow: column; grid-template-columns: none; grid-auto-columns: 15.5rem;
    overflow-x: auto; padding: 3px 3px .6rem; scroll-snap-type: x proximity;
  }
  .pictures li { scroll-snap-align: start; }
  .answer { grid-template-columns: minmax(0, 1fr); }
  .answer figure { position: sticky; top: 0; background: var(--back); padding: .25rem 0; z-index: 1; }
  .answer .frame img { width: auto; max-height: 40vh; }
}
@media print { .row { break-inside: avoid; } }
"""  # noqa: E501

# A word that is pointed at, focused or pressed lights its regions in every picture of its row.
SCRIPT = """
for (const row of document.querySelectorAll(".row")) {
  const words = row.querySelectorAll("button.word");
  const marks = row.querySelectorAll(".marks");
  let pressed = "";
  const show = (key) => {
    for (const group of marks) group.classList.toggle("on", group.dataset.key === key);
    for (const word of words) {
      word.classList.toggle("lit", word.dataset.key === key);
      word.setAttribute("aria-pressed", String(word.dataset.key === pressed));
    }
  };
  for (const word of words) {
    const key = word.dataset.key;
    const leave = () => show(pressed);
    word.addEventListener("mouseenter", () => show(key));
    word.addEventListener("mouseleave", leave);
    word.addEventListener("focus", () => { if (word.matches(":focus-visible")) show(key); });
    word.addEventListener("blur", leave);
    word.addEventListener("click", () => {
      pressed = pressed === key ? "" : key;
      show(pressed);
    });
  }
  row.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { pressed = ""; show(""); }
  });
}
"""
