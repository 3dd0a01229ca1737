// Talking to the service. A key, where one is asked for, stays in this tab.

const KEPT = "visavis-key";
let askForKey = async () => null;

/** Told how to ask the user for a key. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** What the service says when it cannot answer. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const withKey = () => {
  const key = sessionStorage.getItem(KEPT);
  return key ? { authorization: `Bearer ${key}` } : {};
};

async function fetched(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...options.headers, ...withKey() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The service does not answer. Is it still running?");
  }
  if (response.status === 401) {
    sessionStorage.removeItem(KEPT);
    const key = await askForKey();
    if (!key) throw new Problem(401, "The service asks for a key.");
    sessionStorage.setItem(KEPT, key);
    return fetched(path, options);
  }
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    const first = told.errors?.[0];
    const detail = first ? `${first.where.replace("body.", "")}: ${first.what}` : told.detail;
    throw new Problem(response.status, detail ?? `The service answers ${response.status}.`);
  }
  return response;
}

/** JSON from the service. */
export async function get(path, signal) {
  return (await fetched(path, { signal })).json();
}

/** JSON to and from the service. */
export async function post(path, body, signal) {
  const form = body instanceof FormData;
  const response = await fetched(path, {
    method: "POST",
    signal,
    body: form ? body : JSON.stringify(body),
    headers: form ? {} : { "content-type": "application/json" },
  });
  return response.json();
}

/** A picture that asks: its id, or a file; `where` filters the pictures it finds. */
export function pictureForm(like, file, k, where = null) {
  const form = new FormData();
  if (file) form.set("image", file, "picture");
  else form.set("id", like);
  form.set("k", String(k));
  if (where) form.set("where", where);
  return form;
}

/** Where a picture of the index is had in a width. */
export const thumbnail = (id, width) => `/v1/images/${encodeURIComponent(id)}/thumbnail?w=${width}`;

/**
 * Show a picture of the service in an image element.
 * Where there is a key it must be sent, which an address alone does not do.
 */
export async function show(image, path) {
  if (!sessionStorage.getItem(KEPT)) {
    image.src = path;
    return;
  }
  const response = await fetched(path).catch(() => null);
  if (!response) {
    image.dispatchEvent(new Event("error"));
    return;
  }
  const url = URL.createObjectURL(await response.blob());
  image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
  image.src = url;
}
