// A trend: the value (and, where it is aggregated, its range), the limits of the rules, and when an alarm began.

import { get } from "./api.js";
import { el, svg } from "./dom.js";
import { metricName, number, sign, t, time } from "./words.js";

const WIDTH = 600, HEIGHT = 140;

// Resolves to a figure, or null where there is no trend. `query` may give since, until and mark (ms).
export async function chart(path, metric, unit, limits, site, query = {}) {
  const { mark, ...asked } = query;
  const found = await get(`${path}/series`, { metric, points: 300, ...asked }).catch(() => null);
  if (!found || found.at.length < 2) return null;
  const times = found.at.map((at) => new Date(at).getTime());
  const least = found.least ?? found.value, greatest = found.greatest ?? found.value;
  const lowest = least.reduce((a, b) => Math.min(a, b)), highest = greatest.reduce((a, b) => Math.max(a, b));
  const room = Math.max((highest - lowest) * 0.6, Math.abs(highest) * 0.15);
  const near = limits.filter((one) => one.limit > lowest - room && one.limit < highest + room);
  const ends = [lowest, highest, ...near.map((one) => one.limit)];
  let low = Math.min(...ends), high = Math.max(...ends);
  const pad = (high - low || Math.abs(high) || 1) * 0.08;
  low -= pad; high += pad;
  const x = (at) => ((at - times[0]) / (times[times.length - 1] - times[0] || 1)) * WIDTH;
  const y = (value) => HEIGHT - ((value - low) / (high - low)) * HEIGHT;
  const path_ = (values) => times.map((at, index) => `${index ? "L" : "M"}${x(at).toFixed(1)} ${y(values[index]).toFixed(1)}`).join("");
  const range = `${number(lowest)} … ${number(highest)} ${sign(found.unit || unit)}`;
  const drawn = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "chart", role: "img", "aria-label": `${metricName(metric)}: ${range}` });
  // A limit is grey like all that is normal; it has its priority's colour where the value was beyond it.
  const above = (one) => one.operator.startsWith(">");
  const kind = (one) => ((above(one) ? highest > one.limit : lowest < one.limit) ? one.priority : "kept");
  for (const one of near) {
    drawn.append(svg("rect", { x: 0, width: WIDTH, y: above(one) ? 0 : y(one.limit), height: Math.max(0, above(one) ? y(one.limit) : HEIGHT - y(one.limit)), class: `beyond ${kind(one)}` }));
  }
  if (found.aggregated) {
    const lower = times.map((at, index) => `L${x(at).toFixed(1)} ${y(least[index]).toFixed(1)}`).reverse().join("");
    drawn.append(svg("path", { d: `${path_(greatest)}${lower}Z`, class: "band" }));
  }
  for (const one of near) drawn.append(svg("line", { x1: 0, x2: WIDTH, y1: y(one.limit), y2: y(one.limit), class: `limit ${kind(one)}` }, svg("title", {}, `${one.title}: ${one.operator} ${number(one.limit)} ${sign(unit)}`)));
  if (mark && mark > times[0] && mark < times[times.length - 1]) drawn.append(svg("line", { x1: x(mark), x2: x(mark), y1: 0, y2: HEIGHT, class: "begun" }));
  drawn.append(svg("path", { d: path_(found.value), class: "line" }));
  const place = (at) => time(at, site).slice(5, 16);
  return el("figure", {},
    el("figcaption", {}, el("b", {}, metricName(metric)), el("span", { class: "quiet" }, range)), drawn,
    el("div", { class: "axis quiet" }, el("span", {}, place(times[0])), el("span", {}, near.length ? `${t("limitOf")} ${near.map((one) => `${one.operator} ${number(one.limit)}`).join(" · ")}` : ""), el("span", {}, place(times[times.length - 1]))));
}
