// Asking for a key.

import { byId } from "./dom.js";

/** The key that the user types; null when none is given. */
export function askForKey() {
  return new Promise((resolve) => {
    const dialog = byId("key");
    const field = byId("key-text");
    field.value = "";
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(field.value || null), { once: true });
    dialog.addEventListener("cancel", () => { field.value = ""; }, { once: true });
    dialog.showModal();
  });
}
