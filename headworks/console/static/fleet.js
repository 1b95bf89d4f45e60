// Who is late or not heard of, and why: whole paths first, then devices, the gravest first.

import { get } from "./api.js";
import { contactBadge, LOST } from "./contact.js";
import { el, empty, table } from "./dom.js";
import { age, number, span, t, time } from "./words.js";

export async function fleet(page, _, wanted) {
  const counts = await get("/fleet");
  const states = wanted ? [wanted] : [...LOST, "never_heard"];
  const asked = new URLSearchParams(states.map((state) => ["state", state]));
  let found = await get(`/contact?${asked}`);
  const out = counts.outages.filter((one) => !one.ended_at);
  const rows = el("div", {});
  const draw = () => rows.replaceChildren(found.items.length ? table([[t("asset"), ""], [t("where"), ""], [t("contact"), ""], [t("why"), ""], [t("heard"), ""], [t("interval"), "number"], [t("signal"), "number"], [t("battery"), "number"]],
    found.items.map((one) => [el("a", { href: `#/assets/${encodeURIComponent(one.identity)}` }, one.tag || one.identity), [one.site, one.area].filter(Boolean).join(" · "), contactBadge(one.state), el("span", { class: "quiet" }, LOST.has(one.state) || one.state === "never_heard" ? t(`why_${one.state}`) : ""),
      one.heard_at ? el("span", { class: "nowrap", title: time(one.heard_at, one.site) }, age(one.heard_at)) : "", span(one.report_interval_seconds), "rsrp" in one.words ? `${number(one.words.rsrp)} dBm` : "", "battery" in one.words ? `${number(one.words.battery)} %` : ""]), true)
    : empty(t("noLost")),
  found.next ? el("p", {}, el("button", { onclick: async () => { const next = await get(`/contact?${asked}&cursor=${encodeURIComponent(found.next)}`); found = { items: [...found.items, ...next.items], next: next.next }; draw(); } }, t("more"))) : "");
  page.replaceChildren(el("h1", {}, t("fleet")),
    ...out.map((one) => el("p", { class: "outage" }, el("span", { class: "badge high" }, t("high")), el("b", {}, `${t("outage")} ${one.path}`), `${one.devices} ${t("devices_")} · ${time(one.since)} · ${age(one.since)}`)),
    el("div", { class: "bar counts" }, Object.entries(counts.counts).map(([state, count]) => el("a", { class: `count${wanted === state ? " chosen" : ""}`, href: wanted === state ? "#/fleet" : `#/fleet/${state}` }, contactBadge(state), el("b", {}, count)))),
    rows);
  draw();
}
