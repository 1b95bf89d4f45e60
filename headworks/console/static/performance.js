// How well the alarm system does its work (ISA-18.2, EEMUA 191), and how each rule fares.

import { get } from "./api.js";
import { el, empty, table } from "./dom.js";
import { number, span, t, time } from "./words.js";

export async function kpis(page) {
  const [found, rules] = await Promise.all([get("/kpis"), get("/rules")]);
  const percent = (share) => `${number(100 * share, 1)} %`;
  // Grey where the target is met; where not, what it is called stands beside the colour.
  const mark = (text, bad) => (bad ? el("span", { class: "badge look" }, text) : text);
  // Idle is no fault: many rules are for more kinds of devices than have all that they need.
  const idle = (one) => el("details", { class: "quiet" }, el("summary", {}, t("idle")), one.idle.map(({ why, device }) => el("div", {}, `${why} `, el("a", { href: `#/assets/${encodeURIComponent(device)}` }, device))));
  const state = (one) => (one.failing ? el("span", {}, el("span", { class: "badge act" }, t("p_rule")), ` ${one.failing}`) : one.idle.length ? idle(one) : el("span", { class: "quiet" }, t("ok")));
  page.replaceChildren(el("h1", {}, t("kpis")), el("p", { class: "quiet" }, t("kpiHint")),
    found.sites.length ? table([[t("site"), ""], [t("count"), "number"], [t("perTen"), "number"], [t("most"), "number"], [t("flood"), "number"], [t("top10"), "number"], [t("chattering"), "number"], [t("stale"), "number"], [t("toAck"), "number"]],
      found.sites.map((one) => [one.site || t("noSite"), number(one.alarms), mark(number(Math.round(100 * one.alarms_per_10min) / 100), one.alarms_per_10min > 2), mark(number(one.most_per_10min), one.most_per_10min > 10), mark(percent(one.flood_share), one.flood_share > 0.01),
        percent(one.top10_share), mark(number(one.chattering), one.chattering > 0), mark(number(one.stale), one.stale >= 5), span(one.seconds_to_acknowledge)]), true) : empty(t("noSites")),
    el("h2", {}, t("frequent")),
    found.most_frequent.length ? table([[t("site"), ""], [t("asset"), ""], [t("what"), ""], [t("count"), "number"], [t("share"), "number"]],
      found.most_frequent.map((one) => [one.site, el("a", { href: `#/assets/${encodeURIComponent(one.device)}` }, one.tag || one.device), one.title, number(one.alarms), percent(one.share)]), true) : empty(t("noFrequent")),
    ...(found.chattering.length ? [el("h2", {}, t("chattering")),
      table([[t("site"), ""], [t("asset"), ""], [t("what"), ""], [t("times"), "number"], [t("count"), "number"], [t("lastTime"), ""], [t("state"), ""]],
        found.chattering.map((one) => [one.site, el("a", { href: `#/assets/${encodeURIComponent(one.device)}` }, one.tag || one.device), one.title, number(one.bursts), number(one.activations), el("span", { class: "nowrap" }, time(one.last_raised_at)), one.shelved ? t("shelved") : ""]), true)] : []),
    el("h2", {}, t("rules")),
    rules.items.length ? table([[t("priority"), ""], [t("rule"), ""], [t("condition"), ""], [t("health"), ""], [t("open"), "number"], [t("days30"), "number"]],
      [...rules.items].sort((a, b) => Number(Boolean(b.failing)) - Number(Boolean(a.failing)) || Number(b.idle.length > 0) - Number(a.idle.length > 0) || b.last_30_days - a.last_30_days)
        .map((one) => [t(one.priority), el("span", { title: one.rule }, one.title), el("code", {}, one.condition), state(one), number(one.open), number(one.last_30_days)]), true) : "");
}
