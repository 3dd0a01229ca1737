// A picture of this computer that asks: chosen, dropped or pasted.

import { byId } from "./dom.js";

const KINDS = /^image\/(jpeg|png|webp|bmp|gif|tiff)$/;

/** Call `take(file)` for each picture, `refuse(text)` for what is none. */
export function takePictures(take, refuse) {
  const given = (files) => {
    const [file] = files;
    if (!file) return;
    if (KINDS.test(file.type)) take(file);
    else refuse("That is no picture that can be read here: JPEG, PNG, WebP, BMP, GIF or TIFF.");
  };
  const chooser = byId("file");
  chooser.addEventListener("change", () => {
    given(chooser.files);
    chooser.value = ""; // the same file may be chosen again
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) {
      event.preventDefault();
      given(event.clipboardData.files);
    }
  });
  takeDropped(given);
}

function takeDropped(given) {
  const sign = byId("drop");
  let inside = 0; // elements of the page that the dragged file is over
  const brings = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (!brings(event)) return;
    inside += 1;
    sign.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!brings(event)) return;
    inside = Math.max(0, inside - 1);
    sign.hidden = inside === 0;
  });
  addEventListener("dragover", (event) => {
    if (brings(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!brings(event)) return;
    event.preventDefault();
    inside = 0;
    sign.hidden = true;
    given(event.dataTransfer.files);
  });
}
