// Sites with all their assets at once, one asset, the fleet's contact, and the alarm system's own performance.

import { get } from "./api.js";
import { badge } from "./alarms.js";
import { el, svg } from "./dom.js";
import { age, number, sign, span, t, time } from "./words.js";

const LOST = new Set(["late", "silent", "cut_off", "flat_battery", "out_of_coverage"]);
const contactWord = (state) => t(state === "heard" ? "heard_" : state);
const contactBadge = (state) => el("span", { class: `badge ${state === "late" ? "look" : LOST.has(state) ? "act" : "over"}` }, contactWord(state));

function table(heads, rows) {
  return el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, heads.map(([text, kind]) => el("th", { class: kind }, text)))),
    el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, index) => el("td", { class: heads[index][1] }, cell)))))));
}

export async function sites(page) {
  const found = (await get("/sites")).items;
  page.replaceChildren(el("h1", {}, t("sites")));
  if (!found.length) page.append(el("p", { class: "empty" }, t("noSites")));
  for (const site of found) {
    const tiles = el("div", { class: "tiles" });
    page.append(el("h2", {}, site.site || "–", " ", site.priority ? el("span", { class: `badge ${site.priority}` }, t(site.priority)) : null,
      el("span", { class: "quiet" }, ` ${site.assets} ${t("assets")}${site.not_heard ? ` · ${site.not_heard} ${t("lost")}` : ""} · ${site.time_zone}`)), tiles);
    fill(tiles, site.site);
  }
}

async function fill(tiles, site) {
  let cursor;
  do {
    const found = await get("/assets", { site, limit: 2000, cursor });
    tiles.append(...found.items.map((asset) => el("a", {
      class: `tile ${asset.priority || ""} ${LOST.has(asset.contact) ? "lost" : ""}`, href: `#/assets/${encodeURIComponent(asset.identity)}`,
      title: `${asset.tag} · ${asset.area} · ${contactWord(asset.contact)}`,
    }, asset.tag || asset.identity, el("small", {}, asset.priority ? t(asset.priority) : LOST.has(asset.contact) ? contactWord(asset.contact) : asset.kind))));
    cursor = found.next;
  } while (cursor);
}

export async function asset(page, session, identity) {
  const path = `/devices/${encodeURIComponent(identity)}`;
  const [device, latest, limits, alarms, quarantined] = await Promise.all([
    get(path), get(`${path}/latest`), get(`${path}/limits`), get("/alarms", { device: identity, all: "true", limit: 20 }), get("/quarantine", { device: identity, limit: 10 })]);
  const pair = (name, value) => (value || value === 0 ? [el("dt", {}, name), el("dd", {}, value)] : []);
  const charts = el("div", { class: "charts" });
  page.replaceChildren(
    el("h1", {}, device.tag || device.identity, " ", el("span", { class: "quiet" }, [device.site, device.area, device.unit].filter(Boolean).join(" · "))),
    el("div", { class: "two" },
      el("div", {},
        el("h2", {}, t("latest")),
        latest.items.length ? table([["", ""], [t("value"), "number"], ["", ""], [t("quality"), ""], [t("asOf"), ""]],
          latest.items.map((one) => [one.metric, number(one.value), sign(one.unit),
            one.status === "good" ? el("span", { class: "quiet" }, t("good")) : el("span", { class: `badge ${one.status === "bad" ? "act" : "look"}`, title: one.ne107 }, t(one.status)),
            el("span", { class: "quiet", title: time(one.measured_at, device.site) }, age(one.measured_at))])) : el("p", { class: "empty" }, t("noValues")),
        el("h2", {}, t("trends")), charts,
        el("h2", {}, t("openAlarms")),
        alarms.items.length ? table([["", ""], ["", ""], [t("what"), ""], [t("since"), ""]], alarms.items.map((one) => [badge(one), t(one.state),
          el("a", { href: `#/alarms/${one.number}` }, one.message), el("span", { class: "quiet" }, time(one.since, device.site))])) : el("p", { class: "empty" }, t("noAlarms")),
        quarantined.items.length ? [el("h2", {}, t("quarantine")), table([["", ""], ["", ""], [t("asOf"), ""]], quarantined.items.map((one) => [one.reason, one.detail, time(one.received_at, device.site)]))] : null),
      el("aside", { class: "card" }, el("h2", {}, t("nameplate")),
        el("dl", {}, pair(t("maker"), device.manufacturer), pair(t("model"), device.model), pair(t("serial"), device.serial), pair(t("kind"), device.kind), pair(t("profile"), device.profile),
          Object.entries(device.design).flatMap(([name, value]) => pair(name, number(value))),
          pair(t("contact"), contactBadge(device.contact)), pair(t("heard"), device.heard_at ? time(device.heard_at, device.site) : ""), pair(t("interval"), span(device.report_interval_seconds)), pair("ID", device.identity)),
        session.grafana_url ? el("p", {}, el("a", { href: `${session.grafana_url}/d/headworks-${device.kind}`, rel: "noreferrer" }, t("grafana"))) : null)));
  for (const { metric, unit } of latest.items) chart(charts, path, metric, unit, limits.items.filter((one) => one.metric === metric && one.of === metric));
}

async function chart(charts, path, metric, unit, limits) {
  const place = el("figure", { class: "card", hidden: true });
  charts.append(place);
  const found = await get(`${path}/series`, { metric, points: 300 }).catch(() => null);
  if (!found || found.at.length < 2) return;
  const times = found.at.map((at) => new Date(at).getTime());
  const least = found.least ?? found.value;
  const greatest = found.greatest ?? found.value;
  let low = Math.min(...least);
  let high = Math.max(...greatest);
  const room = Math.max((high - low) * 0.6, Math.abs(high) * 0.15);
  const near = limits.filter((one) => one.limit > low - room && one.limit < high + room);
  for (const one of near) { low = Math.min(low, one.limit); high = Math.max(high, one.limit); }
  const pad = (high - low || Math.abs(high) || 1) * 0.08;
  low -= pad;
  high += pad;
  const x = (at) => ((at - times[0]) / (times[times.length - 1] - times[0])) * 600;
  const y = (value) => 140 - ((value - low) / (high - low)) * 140;
  const line = times.map((at, index) => `${index ? "L" : "M"}${x(at).toFixed(1)} ${y(found.value[index]).toFixed(1)}`).join("");
  const drawn = svg("svg", { viewBox: "0 0 600 140", preserveAspectRatio: "none", class: "chart", role: "img", "aria-label": `${metric}: ${number(least.reduce((a, b) => Math.min(a, b)))} … ${number(greatest.reduce((a, b) => Math.max(a, b)))} ${unit}` });
  if (found.aggregated) {
    const upper = times.map((at, index) => `${index ? "L" : "M"}${x(at).toFixed(1)} ${y(greatest[index]).toFixed(1)}`).join("");
    const lower = times.map((at, index) => `L${x(at).toFixed(1)} ${y(least[index]).toFixed(1)}`).reverse().join("");
    drawn.append(svg("path", { d: `${upper}${lower}Z`, class: "band" }));
  }
  for (const one of near) drawn.append(svg("line", { x1: 0, x2: 600, y1: y(one.limit), y2: y(one.limit), class: `limit ${one.priority}` }, svg("title", {}, `${one.title}: ${one.operator} ${number(one.limit)} ${sign(unit)}`)));
  drawn.append(svg("path", { d: line, class: "line" }));
  place.append(el("figcaption", {}, el("b", {}, metric), el("span", { class: "quiet" }, `${number(low + pad)} … ${number(high - pad)} ${sign(unit)}`)), drawn);
  place.hidden = false;
}

export async function fleet(page) {
  const [counts, found] = await Promise.all([get("/fleet"), lost()]);
  page.replaceChildren(el("h1", {}, t("fleet")),
    el("div", { class: "bar" }, Object.entries(counts.counts).map(([state, count]) => el("span", {}, contactBadge(state), ` ${count}`))),
    ...counts.outages.filter((one) => !one.ended_at).map((one) => el("p", { class: "card wrong" }, `${t("outage")} ${one.path} (${one.devices}), ${time(one.since)}`)),
    found.length ? table([["", ""], [t("site"), ""], [t("contact"), ""], [t("heard"), ""], [t("signal"), "number"], [t("battery"), "number"]],
      found.map((one) => [el("a", { href: `#/assets/${encodeURIComponent(one.identity)}` }, one.tag || one.identity), one.site, contactBadge(one.state),
        one.heard_at ? `${age(one.heard_at)} · ${time(one.heard_at, one.site)}` : "", "rsrp" in one.words ? `${number(one.words.rsrp)} dBm` : "", "battery" in one.words ? `${number(one.words.battery)} %` : ""]))
      : el("p", { class: "empty" }, t("noLost")));
}

async function lost() {
  const found = [];
  for (const state of [...LOST, "never_heard"]) found.push(...(await get("/contact", { state, limit: 200 })).items);
  return found;
}

export async function kpis(page) {
  const found = await get("/kpis");
  const percent = (share) => `${number(100 * share, 2)} %`;
  page.replaceChildren(el("h1", {}, t("kpis")), el("p", { class: "quiet" }, t("kpiHint")),
    table([[t("site"), ""], [t("count"), "number"], [t("perTen"), "number"], [t("most"), "number"], [t("flood"), "number"], [t("top10"), "number"], [t("chattering"), "number"], [t("stale"), "number"], [t("toAck"), "number"]],
      found.sites.map((one) => [one.site || "–", one.alarms, number(one.alarms_per_10min), one.most_per_10min, percent(one.flood_share), percent(one.top10_share), one.chattering, one.stale, span(one.seconds_to_acknowledge)])),
    el("h2", {}, t("frequent")),
    found.most_frequent.length ? table([[t("site"), ""], ["", ""], [t("what"), ""], [t("count"), "number"], [t("share"), "number"]],
      found.most_frequent.map((one) => [one.site, one.tag || one.device, one.title, one.alarms, percent(one.share)])) : el("p", { class: "empty" }, t("noAlarms")));
}
