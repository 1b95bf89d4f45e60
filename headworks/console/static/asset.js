// One asset: its latest values, trends with the limits of the rules, alarms, nameplate, radio and battery, quarantine.

import { get, post } from "./api.js";
import { release } from "./alarm.js";
import { badge } from "./alarms.js";
import { chart } from "./chart.js";
import { contactBadge, LOST } from "./contact.js";
import { ask, el, empty, pair, say, table } from "./dom.js";
import { age, metricName, number, said, sign, span, t, time } from "./words.js";

const RADIO = ["battery", "battery_voltage", "battery_low", "rsrp", "snr", "coverage_level", "connected"];

export async function asset(page, session, given) {
  const identity = decodeURIComponent(given);
  const path = `/devices/${encodeURIComponent(identity)}`;
  const [device, latest, limits, alarms, quarantined, held] = await Promise.all([
    get(path), get(`${path}/latest`), get(`${path}/limits`), get("/alarms", { device: identity, all: "true", limit: 20 }),
    get("/quarantine", { device: identity, limit: 10 }), get("/suppressions")]);
  const mine = held.items.filter((one) => one.device === identity);
  const again = () => asset(page, session, given);
  const process = latest.items.filter((one) => !RADIO.includes(one.metric));
  const radio = latest.items.filter((one) => RADIO.includes(one.metric));
  // Each trend has its place before it is there: nothing moves when it comes.
  const places = new Map([...process, ...radio].map((one) => [one.metric, el("div", { class: "card trend" }, el("span", { class: "quiet" }, metricName(one.metric)))]));
  page.replaceChildren(
    el("div", { class: "title" }, el("h1", {}, device.tag || device.identity), el("span", { class: "quiet" }, [device.site, device.area, device.unit].filter(Boolean).join(" · ")),
      LOST.has(device.contact) ? contactBadge(device.contact) : null),
    ...mine.map((one) => el("p", { class: "held" }, el("b", {}, t(one.kind === "shelved" ? "shelved_" : one.kind)), one.title ? ` ${one.title}` : "", ` ${t("by")} ${one.by}${one.until ? ` ${t("until")} ${time(one.until, device.site)}` : ""}: ${one.reason} `,
      el("button", { disabled: one.kind === "shelved" ? session.role === "viewer" : !isEngineer(session), onclick: () => done(release(one, ending(one)), again) }, ending(one)))),
    el("div", { class: "two" },
      el("div", {},
        el("h2", {}, t("latest")),
        process.length ? values(process, device) : empty(t("noValues")),
        el("h2", {}, t("openAlarms")),
        alarms.items.length ? table([[t("priority"), ""], [t("state"), ""], [t("what"), ""], [t("since"), ""]], alarms.items.map((one) => [badge(one), t(one.state),
          el("a", { href: `#/alarms/${one.number}` }, said(one.message)), el("span", { class: "quiet nowrap" }, time(one.since, device.site))]), true) : empty(t("noAlarms")),
        process.length ? [el("h2", {}, t("trends")), el("div", { class: "charts" }, process.map((one) => places.get(one.metric)))] : null,
        radio.length ? [el("h2", {}, t("radio")), values(radio, device), el("div", { class: "charts" }, radio.map((one) => places.get(one.metric)))] : null,
        el("h2", {}, t("quarantine")),
        quarantined.items.length ? table([[t("reasonHead"), ""], [t("detail"), ""], [t("asOf"), ""]], quarantined.items.map((one) => [one.reason, one.detail, el("span", { class: "nowrap" }, time(one.received_at, device.site))]), true) : empty(t("noQuarantine"))),
      el("aside", { class: "card" }, el("h2", {}, t("nameplate")),
        el("dl", {}, pair(t("maker"), device.manufacturer), pair(t("model"), device.model), pair(t("serial"), device.serial), pair(t("kind"), device.kind), pair(t("profile"), device.profile),
          Object.entries(device.design).flatMap(([name, value]) => pair(metricName(name), number(value))), pair("ID", device.identity)),
        el("h2", {}, t("contact")),
        el("dl", {}, pair(t("contact"), contactBadge(device.contact)), pair(t("why"), LOST.has(device.contact) || device.contact === "never_heard" ? t(`why_${device.contact}`) : ""),
          pair(t("heard"), device.heard_at ? `${age(device.heard_at)} · ${time(device.heard_at, device.site)}` : ""), pair(t("interval"), span(device.report_interval_seconds)), pair(t("first"), time(device.registered_at, device.site))),
        isEngineer(session) && !mine.some((one) => one.kind === "out_of_service") ? el("p", {}, el("button", { onclick: () => outOfService(identity, again) }, t("outOfService"))) : null,
        session.grafana_url ? el("p", {}, el("a", { href: grafana(session, device), rel: "noreferrer" }, `${t("grafana")} ↗`)) : null)));
  for (const one of latest.items) {
    chart(path, one.metric, one.unit, limits.items.filter((limit) => limit.metric === one.metric && limit.of === one.metric), device.site)
      .then((drawn) => { if (drawn) places.get(one.metric).replaceChildren(drawn); else places.get(one.metric).remove(); });
  }
}

const isEngineer = (session) => ["engineer", "admin"].includes(session.role);

// The dashboards know an asset by its number in the registry, which survives a rename.
function grafana(session, device) {
  return ["pump", "valve"].includes(device.kind) ? `${session.grafana_url}/d/headworks-${device.kind}?var-asset=${device.number}` : `${session.grafana_url}/d/headworks-site?var-site=${encodeURIComponent(device.site)}`;
}

function values(items, device) {
  return table([[t("what"), ""], [t("value"), "number"], ["", ""], [t("quality"), ""], [t("asOf"), ""]],
    items.map((one) => [metricName(one.metric), el("b", {}, number(one.value)), el("span", { class: "quiet" }, sign(one.unit)),
      one.status === "good" ? el("span", { class: "quiet" }, t("good")) : el("span", { class: `badge ${one.status === "bad" ? "act" : "look"}`, title: one.ne107 }, t(one.status)),
      el("span", { class: "quiet nowrap", title: time(one.measured_at, device.site) }, age(one.measured_at))]));
}

const ending = (one) => t(one.kind === "out_of_service" ? "intoService" : "unshelve");

async function outOfService(device, again) {
  const given = await ask(t("outOfService"), [{ label: t("reason"), field: el("textarea", { id: "why", name: "reason", required: true, rows: 2 }) }], t("outOfService"), t("cancel"));
  if (given) await done(post("/suppressions", { kind: "out_of_service", device, reason: given.reason }), again);
}

async function done(work, again) {
  try { if (await work === null) return; } catch (error) { say(error.message); return; }
  await again();
}
