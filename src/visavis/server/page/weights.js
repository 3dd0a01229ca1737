// From weights to what is seen: opacities, numbers, order. Nothing here touches the document.

const LEAST = 0.06; // of the brightest: fainter is not drawn
const NAMED = 3; // regions that carry a number
const NUMBER = [0.1, 0.05]; // of the picture: room that a number takes

/** The largest of some numbers, at least 0. */
const largest = (values) => values.reduce((most, value) => Math.max(most, value), 0);

/**
 * How brightly each region of a word is lit, from 0 to 1.
 * Light begins at the mean: attention that is spread evenly says nothing and lights nothing up.
 */
export function sharesOf(row) {
  const most = largest(row);
  if (most <= 0) return row.map(() => 0);
  const mean = row.reduce((sum, weight) => sum + weight, 0) / row.length;
  const range = most - mean;
  if (range <= most * 1e-3) return row.map(() => (row.length === 1 ? 1 : 0));
  return row.map((weight) => Math.max(0, weight - mean) / range);
}

/**
 * The regions of one word, strongest first.
 * `share` becomes an opacity; `weight` is the number that is shown. A few carry their number in
 * the corner of their box, unless a stronger one's number lies there.
 */
export function regionsOfWord(row, boxes) {
  const shares = sharesOf(row);
  const corners = [];
  const free = ([left, top]) =>
    corners.every(([x, y]) => Math.abs(x - left) > NUMBER[0] || Math.abs(y - top) > NUMBER[1]);
  return row
    .map((weight, region) => ({ region, weight, share: shares[region] }))
    .filter(({ share }) => share >= LEAST)
    .sort((one, other) => other.weight - one.weight || one.region - other.region)
    .map((lit) => {
      const named = corners.length < NAMED && lit.share >= 0.4 && free(boxes[lit.region]);
      if (named) corners.push(boxes[lit.region]);
      return { ...lit, named };
    });
}

/**
 * The words of one region, in the order of the sentence.
 * `share` says how near the region comes to the word's strongest one.
 */
export function wordsOfRegion(weights, region) {
  return weights.map((row, word) => ({ word, weight: row[region], share: sharesOf(row)[region] }));
}

/** The smallest box that holds a point given as fractions; -1 where none does. */
export function regionAt(boxes, x, y) {
  let found = -1;
  let least = Infinity;
  boxes.forEach(([left, top, right, bottom], region) => {
    const area = (right - left) * (bottom - top);
    if (x >= left && x <= right && y >= top && y <= bottom && area < least) {
      found = region;
      least = area;
    }
  });
  return found;
}

/** A box of fractions as percentages of the picture. */
export function placeOf([left, top, right, bottom]) {
  const percent = (value) => `${(100 * value).toFixed(2)}%`;
  return {
    left: percent(left), top: percent(top),
    width: percent(right - left), height: percent(bottom - top),
  };
}

/** Regions in the order in which the keyboard goes through them: what any word looks at most first. */
export function regionOrder(weights, count) {
  const best = Array.from({ length: count }, (_, region) =>
    largest(wordsOfRegion(weights, region).map(({ share }) => share)));
  return best.map((_, region) => region).sort((one, other) => best[other] - best[one] || one - other);
}

/** A weight from 0 to 1 as it is read. */
export function percentOf(weight) {
  const percent = 100 * weight;
  return `${percent >= 10 || percent === 0 ? Math.round(percent) : percent.toFixed(1)}\u00a0%`;
}

/** What a word is worth: a number with its sign, and a share of the largest for its bar. */
export function worthOf(scores) {
  const most = largest(scores.map(Math.abs));
  return scores.map((score) => {
    const number = Math.abs(score).toFixed(most >= 10 ? 1 : 2);
    const sign = Number(number) === 0 ? "" : score < 0 ? "−" : "+";
    return {
      score,
      text: sign + number,
      share: most > 0 ? Math.abs(score) / most : 0,
      against: sign === "−",
    };
  });
}

/** Bars of scores: relative to the best, or to the range where some are below 0. */
export function barsOf(scores) {
  const most = Math.max(...scores);
  const least = Math.min(0, ...scores);
  const range = most - least;
  return scores.map((score) => (range > 0 ? (score - least) / range : 0));
}
