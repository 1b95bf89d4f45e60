// The platform itself: its parts, what is wrong with it, and what could not be stored.

import { get } from "./api.js";
import { el, empty, table } from "./dom.js";
import { t, time } from "./words.js";

export async function platform(page, session) {
  const [health, alarms, quarantine] = await Promise.all([get("/health"), get("/platform/alarms"), get("/quarantine", { limit: 50 })]);
  page.replaceChildren(el("h1", {}, t("platform")),
    alarms.items.length ? table([[t("priority"), ""], [t("what"), ""], ["", ""], [t("detail"), ""], [t("since"), ""]],
      alarms.items.map((one) => [el("span", { class: `badge ${one.priority}` }, t(one.priority)), t(`p_${one.kind}`), el("b", {}, one.name), one.message, el("span", { class: "nowrap" }, time(one.since))]), true) : "",
    el("h2", {}, t("parts")),
    table([[t("what"), ""], [t("health"), ""]], Object.entries(health.parts).map(([part, state]) => [part, state === "ok" ? el("span", { class: "quiet" }, t("ok")) : el("span", {}, el("span", { class: "badge act" }, t("p_part")), ` ${state}`)])),
    el("h2", {}, t("quarantine")),
    quarantine.items.length ? table([[t("asOf"), ""], [t("reasonHead"), ""], [t("device"), ""], [t("detail"), ""]],
      quarantine.items.map((one) => [el("span", { class: "nowrap" }, time(one.received_at)), one.reason, one.identity ? el("a", { href: `#/assets/${encodeURIComponent(one.identity)}` }, one.identity) : "", one.detail]), true) : empty(t("noQuarantine")),
    el("p", { class: "quiet" }, `Headworks ${session.version}`));
}
