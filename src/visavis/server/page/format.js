// Numbers and times as people read them. Nothing here touches the document.

const NAMES = {
  filter: "filter", encode: "reading the sentence", first: "first stage", exact: "exact",
  rerank: "re-ranking",
};

/** A whole number with its thousands apart. */
export const thousands = (value) => Math.round(value).toLocaleString("en-US");

/** A number with its word. */
export const counted = (value, one, more = `${one}s`) =>
  `${thousands(value)} ${value === 1 ? one : more}`;

/** Milliseconds, with as many digits as they deserve. */
export function milliseconds(value) {
  if (value >= 10000) return `${(value / 1000).toFixed(1)} s`;
  if (value >= 10) return `${Math.round(value)} ms`;
  if (value >= 1) return `${value.toFixed(1)} ms`;
  return `${value.toFixed(value >= 0.095 ? 1 : 2)} ms`;
}

/**
 * What each stage did: its name, its time, how many it went over, and its share of the time.
 * A stage goes over what the one before it left; reading the sentence leaves nothing out.
 */
export function stageParts(stages, gallery) {
  const total = stages.reduce((sum, stage) => sum + stage.ms, 0);
  let over = gallery;
  return stages.map((stage) => {
    const went = stage.name === "encode" ? null : over;
    if (stage.name !== "encode") over = stage.items;
    const text = `${NAMES[stage.name] ?? stage.name} ${milliseconds(stage.ms)}`;
    return {
      name: stage.name,
      text: went === null || stage.name === "filter" ? text : `${text} over ${thousands(went)}`,
      share: total > 0 ? stage.ms / total : 0,
    };
  });
}

/** A score with three digits after the point. */
export const scoreText = (score) => score.toFixed(3).replace("-", "−");

/** A date and time as the camera wrote it, for people. */
export function takenText(taken) {
  const match = /^(\d{4})-(\d{2})-(\d{2})(?:T(\d{2}:\d{2}))?/.exec(taken ?? "");
  if (!match) return "";
  const date = new Date(Date.UTC(Number(match[1]), Number(match[2]) - 1, Number(match[3])));
  const day = date.toLocaleDateString("en-GB", {
    day: "numeric", month: "long", year: "numeric", timeZone: "UTC",
  });
  return match[4] && match[4] !== "00:00" ? `${day}, ${match[4]}` : day;
}
