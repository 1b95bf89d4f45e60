// One alarm: what it is, what to do about it, its trend and its journal; and the steps that people take on alarms.

import { get, post } from "./api.js";
import { badge } from "./alarms.js";
import { chart } from "./chart.js";
import { ask, el, failed, pair } from "./dom.js";
import { age, said, span, t, time } from "./words.js";

export const acknowledge = (alarms, comment = "") => post("/alarms/acknowledge", { alarms, comment });

export async function shelve(alarms) {
  const given = await ask(`${t("shelve")} (${alarms.length})`, [
    { label: t("reason"), field: el("textarea", { id: "why", name: "reason", required: true, rows: 2 }) },
    { label: t("howLong"), field: el("select", { id: "long", name: "length" }, ["1h", "2h", "4h", "8h", "12h"].map((one) => el("option", { value: one }, span(3600 * parseInt(one, 10))))) },
  ], t("shelve"), t("cancel"));
  return given ? post("/alarms/shelve", { alarms, reason: given.reason, length: given.length }) : null;
}

async function remark(alarms) {
  const given = await ask(t("comment"), [{ label: t("remark"), field: el("textarea", { id: "remark", name: "comment", required: true, rows: 3 }) }], t("comment"), t("cancel"));
  return given ? post("/alarms/comment", { alarms, comment: given.comment }) : null;
}

// End a suppression, and why; the answer says nothing of alarms. Null where it was thought better of.
export async function release(one, title = t("unshelve")) {
  const given = await ask(title, [{ label: t("reason"), field: el("textarea", { id: "why", name: "reason", required: true, rows: 2 }) }], title, t("cancel"));
  return given ? post("/suppressions/release", { kind: one.kind, device: one.device, rule: one.rule, reason: given.reason }).then(() => ({})) : null;
}

export async function detail(number, session, step) {
  let found, held = [];
  try {
    found = await get(`/alarms/${number}`);
    if (found.alarm.suppressions.length) {
      held = (await get("/suppressions")).items.filter((one) => one.device === found.alarm.device && (!one.rule || one.rule === found.alarm.rule));
    }
  } catch (error) { return el("div", { class: "card" }, failed(error, () => { location.hash = "#/alarms"; })); }
  const { alarm, journal } = found;
  const may = session.role !== "viewer";
  const engineer = ["engineer", "admin"].includes(session.role);
  const waits = alarm.state.includes("unacknowledged");
  const comment = el("input", { id: "note", placeholder: t("remarkOptional"), "aria-label": t("remarkOptional"), maxlength: 1000 });
  const late = (new Date(alarm.recorded_at) - new Date(alarm.raised_at)) / 1000;
  const trend = el("div", { class: "trend" });
  showTrend(trend, alarm);
  return el("div", { class: "card" },
    el("a", { class: "back", href: "#/alarms" }, t("back")),
    el("h2", {}, badge(alarm), el("span", {}, alarm.title)),
    el("p", { class: "tag" }, el("a", { href: `#/assets/${encodeURIComponent(alarm.device)}` }, alarm.tag || alarm.device), el("span", { class: "quiet" }, [alarm.site, alarm.area].filter(Boolean).join(" · "))),
    el("p", { class: "said" }, said(alarm.message)),
    el("p", { class: "quiet" }, `${t(alarm.state)} · ${age(alarm.since)}${alarm.acknowledged_by ? ` · ${t("acknowledged")} ${t("by")} ${alarm.acknowledged_by}` : ""}`),
    may && waits ? el("div", { class: "bar note" }, comment) : null,
    el("div", { class: "bar" },
      el("button", { class: "main", disabled: !may || !waits, title: may ? undefined : t("only"), onclick: () => step((numbers) => acknowledge(numbers, comment.value.trim()), [number]) }, t("acknowledge")),
      el("button", { disabled: !may, onclick: () => step(shelve, [number]) }, t("shelve")),
      alarm.state === "latched" ? el("button", { disabled: !may, onclick: () => step((alarms) => post("/alarms/reset", { alarms }), [number]) }, t("reset")) : null,
      el("button", { disabled: !may, onclick: () => step(remark, [number]) }, t("comment"))),
    held.map((one) => el("p", { class: "held" }, el("b", {}, t(one.kind === "shelved" ? "shelved_" : one.kind)), ` ${t("by")} ${one.by}${one.until ? ` ${t("until")} ${time(one.until, alarm.site)}` : ""}: ${one.reason} `,
      el("button", { disabled: !(one.kind === "shelved" ? may : engineer), onclick: () => step(() => release(one), [number]) }, t("unshelve")))),
    el("dl", { class: "guide" },
      pair(t("action"), alarm.guidance.corrective_action), pair(t("cause"), alarm.guidance.cause), pair(t("consequence"), alarm.guidance.consequence)),
    trend,
    el("dl", {},
      pair(t("since"), time(alarm.since, alarm.site)),
      pair(t("learned"), late > 120 ? `${time(alarm.recorded_at, alarm.site)} (${span(late)} ${t("learnedLate")})` : ""),
      pair(t("over"), time(alarm.cleared_at, alarm.site))),
    el("h3", {}, t("journal")),
    el("ul", { class: "journal" }, [...journal].reverse().map((line) => el("li", {}, el("b", {}, t(line.kind === "shelved" ? "shelved_" : line.kind)), ` ${t("by")} ${line.actor} `,
      el("span", { class: "quiet" }, time(line.at, alarm.site)),
      line.detail.comment || line.detail.reason ? el("div", {}, String(line.detail.comment || line.detail.reason)) : null))));
}

async function showTrend(place, alarm) {
  const path = `/devices/${encodeURIComponent(alarm.device)}`;
  const limits = await get(`${path}/limits`).catch(() => null);
  const mine = limits?.items.find((one) => one.rule === alarm.rule);
  if (!mine) return;
  const from = new Date(alarm.since).getTime();
  const until = alarm.cleared_at ? new Date(alarm.cleared_at).getTime() + 3600e3 : Date.now();
  const room = Math.min(Math.max(3600e3, until - from), 7 * 86400e3);
  const drawn = await chart(path, mine.metric, mine.unit, [mine], alarm.site, {
    since: new Date(from - room).toISOString(), until: new Date(Math.min(until, from + 7 * 86400e3)).toISOString(), mark: from });
  if (drawn) place.replaceChildren(drawn);
}
