// The alarm list: unacknowledged first, colour only for the abnormal, live; and one alarm with what to do about it.

import { get, post } from "./api.js";
import { ask, el, say } from "./dom.js";
import { age, t, time } from "./words.js";

const state = { items: [], next: null, chosen: new Set(), at: 0, site: "", priority: "", text: "", all: false };
let page, session, shown;

export async function alarms(target, who, number) {
  page = target;
  session = who;
  shown = number ? Number(number) : null;
  page.replaceChildren(frame());
  await load();
  if (shown) await open(shown);
}

export async function refresh() {
  await load();
  if (shown) await open(shown);
}

export function badge(alarm) {
  const active = alarm.state === "unacknowledged" || alarm.state === "acknowledged" || alarm.state === "latched";
  return el("span", { class: `badge ${active ? alarm.priority : "over"}` }, t(alarm.priority));
}

function frame() {
  const filter = (name, entries) => el("select", { "aria-label": entries[0][1], onchange: (event) => { state[name] = event.target.value; load(); } },
    entries.map(([value, text]) => el("option", { value, selected: state[name] === value }, text)));
  const sites = filter("site", [["", t("all")]]);
  get("/sites").then((found) => sites.append(...found.items.map((one) => el("option", { value: one.site, selected: one.site === state.site }, one.site || "–")))).catch(() => {});
  return el("div", {},
    el("h1", {}, t("alarms"), " ", el("span", { id: "summary", class: "quiet" })),
    el("div", { class: "bar" },
      el("button", { class: "main", id: "acknowledge", onclick: acknowledge }, t("acknowledge")),
      el("button", { id: "shelve", onclick: shelve }, t("shelve")),
      sites,
      filter("priority", [["", t("every")], ["high", t("high")], ["medium", t("medium")], ["low", t("low")]]),
      el("input", { class: "grow", type: "search", id: "search", placeholder: t("search"), "aria-label": t("search"), value: state.text,
        onchange: (event) => { state.text = event.target.value; load(); } }),
      el("label", {}, el("input", { type: "checkbox", checked: state.all, onchange: (event) => { state.all = event.target.checked; load(); } }), " ", t("showAll"))),
    el("div", { class: "two" }, el("div", { class: "list" }, el("ul", { class: "alarms", id: "list" }), el("p", { class: "quiet keys" }, t("keys"))),
      el("aside", { class: "detail", id: "detail" })));
}

function query(cursor) {
  return { site: state.site, priority: state.priority, q: state.text, all: state.all ? "true" : "", limit: 100, cursor };
}

async function load() {
  try {
    const [found, summary] = await Promise.all([get("/alarms", query()), get("/alarms/summary", { site: state.site })]);
    state.items = found.items;
    state.next = found.next;
    const numbers = ["high", "medium", "low"].map((name) => `${t(name)} ${summary.open[name]}`).join(" · ");
    const place = document.getElementById("summary");
    if (place) place.textContent = numbers + (summary.suppressed ? ` · ${t("shelved")} ${summary.suppressed}` : "");
    draw();
  } catch (error) {
    say(error.status === 0 ? t("offline") : error.message);
    if (error.status === 401) location.reload();
  }
}

async function more() {
  const found = await get("/alarms", query(state.next));
  const known = new Set(state.items.map((alarm) => alarm.number));
  state.items.push(...found.items.filter((alarm) => !known.has(alarm.number)));
  state.next = found.next;
  draw();
}

function draw() {
  const list = document.getElementById("list");
  if (!list) return;
  state.at = Math.min(state.at, Math.max(0, state.items.length - 1));
  state.chosen = new Set([...state.chosen].filter((number) => state.items.some((alarm) => alarm.number === number)));
  list.replaceChildren(...state.items.map(row));
  if (!state.items.length) list.append(el("li", { class: "empty" }, t("noAlarms")));
  if (state.next) list.append(el("li", {}, "", el("button", { onclick: more }, t("more"))));
  mark();
}

function row(alarm, index) {
  const fresh = alarm.state === "unacknowledged" || alarm.state === "returned_unacknowledged";
  return el("li", { class: fresh ? "new" : "", "data-number": alarm.number },
    el("input", { type: "checkbox", "aria-label": alarm.tag || alarm.device, checked: state.chosen.has(alarm.number),
      onchange: (event) => { state.at = index; toggle(alarm.number, event.target.checked); } }),
    badge(alarm),
    el("span", { class: "quiet" }, t(alarm.state), alarm.suppressions.length ? ` · ${t("shelved")}` : ""),
    el("span", { class: "what" }, el("a", { href: `#/alarms/${alarm.number}` }, el("b", {}, alarm.tag || alarm.device), " ", alarm.message)),
    el("span", { class: "age", title: time(alarm.since, alarm.site) }, age(alarm.since)),
    el("span", { class: "quiet" }, alarm.site));
}

function toggle(number, on) {
  if (on) state.chosen.add(number); else state.chosen.delete(number);
  mark();
}

function mark() {
  document.querySelectorAll("#list li[data-number]").forEach((line, index) => {
    if (index === state.at) line.setAttribute("aria-current", "true"); else line.removeAttribute("aria-current");
    const box = line.querySelector("input");
    if (box) box.checked = state.chosen.has(Number(line.dataset.number));
  });
  const count = state.chosen.size ? ` (${state.chosen.size})` : "";
  const may = session.role !== "viewer";
  for (const [id, text] of [["acknowledge", t("acknowledge")], ["shelve", t("shelve")]]) {
    const button = document.getElementById(id);
    if (button) { button.textContent = text + count; button.disabled = !may || !targets().length; button.title = may ? "" : t("only"); }
  }
}

function targets() {
  if (state.chosen.size) return [...state.chosen];
  if (shown) return [shown];
  return state.items[state.at] ? [state.items[state.at].number] : [];
}

function told(outcome) {
  const refused = outcome.refused.map((one) => one.why);
  say(`${outcome.done.length} ${t("done")}` + (refused.length ? `, ${refused.length} ${t("refused")}: ${[...new Set(refused)].join("; ")}` : ""));
  state.chosen.clear();
}

async function step(work) {
  try { told(await work()); } catch (error) { say(error.message); }
  await refresh();
}

function acknowledge() {
  const alarms = targets();
  return alarms.length ? step(() => post("/alarms/acknowledge", { alarms })) : undefined;
}

async function shelve() {
  const alarms = targets();
  if (!alarms.length) return;
  const given = await ask(`${t("shelve")} (${alarms.length})`, [
    { label: t("reason"), field: el("textarea", { id: "why", name: "reason", required: true, rows: 2 }) },
    { label: t("howLong"), field: el("select", { id: "long", name: "length" }, ["1h", "2h", "4h", "8h", "12h"].map((one) => el("option", { value: one }, one))) },
  ], t("shelve"), t("cancel"));
  if (given) await step(() => post("/alarms/shelve", { alarms, reason: given.reason, length: given.length }));
}

async function remark(alarm) {
  const given = await ask(t("comment"), [{ label: t("remark"), field: el("textarea", { id: "remark", name: "comment", required: true, rows: 3 }) }], t("comment"), t("cancel"));
  if (given) await step(() => post("/alarms/comment", { alarms: [alarm.number], comment: given.comment }));
}

async function open(number) {
  const place = document.getElementById("detail");
  if (!place) return;
  place.parentElement.classList.add("chosen");
  let found;
  try { found = await get(`/alarms/${number}`); } catch (error) { place.replaceChildren(el("div", { class: "card wrong" }, error.message)); return; }
  const { alarm, journal } = found;
  const may = session.role !== "viewer";
  const pair = (name, value) => (value ? [el("dt", {}, name), el("dd", {}, value)] : []);
  place.replaceChildren(el("div", { class: "card" },
    el("a", { class: "back", href: "#/alarms" }, t("back")),
    el("h2", {}, badge(alarm), " ", alarm.title),
    el("p", {}, el("a", { href: `#/assets/${encodeURIComponent(alarm.device)}` }, el("b", {}, alarm.tag || alarm.device)), ` · ${[alarm.site, alarm.area].filter(Boolean).join(" · ")}`),
    el("p", {}, alarm.message),
    el("div", { class: "bar" },
      el("button", { class: "main", disabled: !may || !alarm.state.includes("unacknowledged"), onclick: () => step(() => post("/alarms/acknowledge", { alarms: [number] })) }, t("acknowledge")),
      el("button", { disabled: !may, onclick: () => { state.chosen = new Set([number]); shelve(); } }, t("shelve")),
      alarm.state === "latched" ? el("button", { disabled: !may, onclick: () => step(() => post("/alarms/reset", { alarms: [number] })) }, t("reset")) : null,
      el("button", { disabled: !may, onclick: () => remark(alarm) }, t("comment"))),
    el("dl", {},
      pair(t("action"), alarm.guidance.corrective_action), pair(t("cause"), alarm.guidance.cause), pair(t("consequence"), alarm.guidance.consequence),
      pair(t("since"), time(alarm.since, alarm.site)),
      pair(t("learned"), new Date(alarm.recorded_at) - new Date(alarm.raised_at) > 120000 ? time(alarm.recorded_at, alarm.site) : ""),
      pair(t("over"), time(alarm.cleared_at, alarm.site))),
    el("h2", {}, t("journal")),
    el("ul", { class: "journal" }, journal.map((line) => el("li", {}, el("b", {}, line.kind), ` ${t("by")} ${line.actor} `,
      el("span", { class: "quiet" }, time(line.at, alarm.site)),
      line.detail.comment || line.detail.reason ? el("div", {}, String(line.detail.comment || line.detail.reason)) : null)))));
}

export function key(event) {
  const move = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
  const here = state.items[state.at];
  if (move) {
    state.at = Math.max(0, Math.min(state.items.length - 1, state.at + move));
    mark();
    document.querySelector("#list li[aria-current]")?.scrollIntoView({ block: "nearest" });
  } else if (event.key === "x" && here) toggle(here.number, !state.chosen.has(here.number));
  else if (event.key === "a" && session.role !== "viewer") acknowledge();
  else if (event.key === "s" && session.role !== "viewer") shelve();
  else if (event.key === "Enter" && here) location.hash = `#/alarms/${here.number}`;
  else if (event.key === "/") document.getElementById("search")?.focus();
  else if (event.key === "Escape") location.hash = "#/alarms";
  else return;
  event.preventDefault();
}
