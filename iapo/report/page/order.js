// In which order the list of traces stands, and which numbers it is narrowed to.

const MEASURES = { divergence: "divergence (nats)", reward: "reward", advantage: "advantage" };
const ORDERS = { file: "as kept", ...MEASURES, status: "status", family: "family", step: "step" };

function orderKey(trace, order, data) {
  if (order === "family") return data.samples[trace.sample].source;
  const value = order === "file" ? null : trace[order];
  return value === undefined ? null : value;
}

// Sorts places among the traces; equal ones stay in their order, and those without a value stand last.
function sortPlaces(places, order, descending, data) {
  if (order === "file") return descending ? places.reverse() : places;
  const keys = new Map(places.map((place) => [place, orderKey(data.traces[place], order, data)]));
  const sign = descending ? -1 : 1;
  return places.sort((one, other) => {
    const [a, b] = [keys.get(one), keys.get(other)];
    if (a === null || b === null) return (a === null) - (b === null);
    return a < b ? -sign : a > b ? sign : 0;
  });
}

// `divergence:0.1:` -> measure, least and most (null where open); null where it is no such text.
function readRange(text) {
  const [measure, least, most, more] = text.split(":");
  const ends = [least, most].map((end) => (end === "" ? null : Number(end)));
  if (!(measure in MEASURES) || most === undefined || more !== undefined || ends.some((end) => Number.isNaN(end))) return null;
  return { measure, least: ends[0], most: ends[1] };
}

function inRange(trace, { measure, least, most }) {
  if (least === null && most === null) return true;
  const value = trace[measure];
  if (value === null || value === undefined) return false;
  return (least === null || value >= least) && (most === null || value <= most);
}
