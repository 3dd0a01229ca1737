// The interface as a page, made from its own description.

import { get, onKeyNeeded } from "./api.js";
import { byId, h, message } from "./dom.js";
import { askForKey } from "./key.js";

/** What a schema wants, in a word or two; `schemas` are the named ones. */
export function kindOf(schema, schemas) {
  if (!schema) return "anything";
  if (schema.$ref) return kindOf(schemas[schema.$ref.split("/").at(-1)], schemas);
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return several.map((one) => kindOf(one, schemas)).join(" or ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${kindOf(schema.items, schemas)}`;
  if (schema.format === "binary" || schema.contentMediaType) return "file";
  return schema.title && schema.type === "object" ? schema.title : schema.type ?? "anything";
}

function fields(schema, schemas) {
  const found = schema?.$ref ? schemas[schema.$ref.split("/").at(-1)] : schema;
  const rows = Object.entries(found?.properties ?? {}).map(([name, one]) => {
    const usual = one.default === undefined || one.default === null ? "" : ` = ${JSON.stringify(one.default)}`;
    return h("tr", {}, h("td", {}, h("code", {}, name)), h("td", {}, kindOf(one, schemas) + usual),
      h("td", { class: "soft" }, one.description ?? ""));
  });
  return rows.length ? h("table", {}, ...rows) : null;
}

function route(path, method, operation, schemas) {
  const given = operation.parameters ?? [];
  const [type, body] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  const right = Object.entries(operation.responses).find(([status]) => status.startsWith("2"));
  const answer = right?.[1].content?.["application/json"]?.schema;
  return h("details", {},
    h("summary", {}, h("span", { class: "method" }, method.toUpperCase()), h("code", {}, path),
      h("span", { class: "soft" }, operation.summary ?? "")),
    h("div", {},
      h("p", {}, operation.description ?? ""),
      given.length ? h("table", {}, ...given.map((one) =>
        h("tr", {}, h("td", {}, h("code", {}, one.name)), h("td", {}, kindOf(one.schema, schemas)),
          h("td", { class: "soft" }, `in the ${one.in}`)))) : null,
      type ? h("p", { class: "soft" }, `Send ${type}`) : null,
      body ? fields(body.schema, schemas) : null,
      h("p", { class: "soft" }, `Answers ${Object.keys(operation.responses).join(", ")}`),
      answer ? fields(answer, schemas) : null));
}

async function show() {
  const { paths, components } = await get("/openapi.json");
  const groups = new Map();
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const group = operation.tags?.[0] ?? "other";
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(route(path, method, operation, components.schemas));
    }
  }
  byId("routes").replaceChildren(...[...groups].flatMap(([name, routes]) => [h("h2", {}, name), ...routes]));
}

onKeyNeeded(askForKey);
show().catch((error) => byId("routes").replaceChildren(message("No answer", error.message)));
