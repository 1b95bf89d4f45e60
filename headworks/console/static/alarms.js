// The alarm list: what is wrong with the platform first, then unacknowledged alarms, by priority and age; live.

import { get } from "./api.js";
import { acknowledge, detail, shelve } from "./alarm.js";
import { el, empty, failed, say } from "./dom.js";
import { age, said, t, time } from "./words.js";

const state = { items: [], next: null, chosen: new Set(), at: 0, site: "", priority: "", text: "", view: "open", limit: 100 };
const PAGE = 100, MOST = 500;
let session, shown;
let asking = 0;

export async function alarms(page, who, ...argument) {
  session = who;
  if (argument[0] === "of") {  // a link in a message: the newest alarm of a rule on a device
    const found = await get("/alarms", { device: decodeURIComponent(argument[1]), rule: decodeURIComponent(argument[2] || ""), all: "true", suppressed: "", order: "number", limit: 1 });
    history.replaceState(null, "", found.items.length ? `#/alarms/${found.items[0].number}` : "#/alarms");
    argument = found.items.length ? [found.items[0].number] : [];
  }
  const wanted = argument[0] ? Number(argument[0]) : null;
  // Between the list and an alarm the list stays where it is: nothing jumps, and the place in it is kept.
  const stays = page.querySelector("#list") && page.dataset.language === document.documentElement.lang;
  shown = wanted;
  if (!stays) {
    page.dataset.language = document.documentElement.lang;
    page.replaceChildren(frame());
    await load();
  }
  if (shown) await open(); else close();
}

export async function refresh() {
  await load();
  if (shown && !document.querySelector("#detail :focus-visible")) await open();
}

export function badge(alarm) {
  // Back to normal and not acknowledged: the frame of its colour, as somebody has to look at it still.
  const kind = { normal: "over", returned_unacknowledged: `${alarm.priority} returned` }[alarm.state] ?? alarm.priority;
  return el("span", { class: `badge ${kind}` }, t(alarm.priority));
}

function frame() {
  const filter = (name, label, entries) => el("select", { "aria-label": label, onchange: (event) => { state[name] = event.target.value; state.at = 0; state.limit = PAGE; load(); } },
    entries.map(([value, text]) => el("option", { value, selected: state[name] === value }, text)));
  const sites = filter("site", t("site"), [["", t("all")]]);
  get("/sites").then((found) => sites.append(...found.items.map((one) => el("option", { value: one.site, selected: one.site === state.site }, one.site || "–")))).catch(() => {});
  return el("div", {},
    el("div", { class: "title" }, el("h1", {}, t("alarms")), el("span", { id: "summary" })),
    el("div", { class: "bar" },
      el("span", { class: "acts" },
        el("button", { class: "main", id: "acknowledge", onclick: () => step(acknowledge) }, t("acknowledge")),
        el("button", { id: "shelve", onclick: () => step(shelve) }, t("shelve"))),
      filter("view", t("state"), [["open", t("viewOpen")], ["shelved", t("viewShelved")], ["all", t("viewAll")]]),
      sites,
      filter("priority", t("priority"), [["", t("every")], ["high", t("high")], ["medium", t("medium")], ["low", t("low")]]),
      el("input", { class: "grow", type: "search", id: "search", placeholder: t("search"), "aria-label": t("search"), value: state.text,
        onchange: (event) => { state.text = event.target.value; state.at = 0; state.limit = PAGE; load(); } })),
    el("div", { class: "two list-and-detail" },
      el("div", { class: "list" },
        el("ul", { class: "platform", id: "platform", "aria-label": t("platform") }),
        el("ul", { class: "alarms", id: "list", "aria-label": t("alarms") }, empty(t("loading"), "li")), el("p", { class: "quiet keys" }, t("keys"))),
      el("aside", { class: "detail", id: "detail", "aria-live": "polite" })));
}

function query(cursor) {
  const view = { open: {}, shelved: { suppressed: "true" }, all: { all: "true" } }[state.view];
  return { site: state.site, priority: state.priority, q: state.text, limit: cursor ? PAGE : state.limit, cursor, ...view };
}

async function load() {
  const mine = ++asking;
  try {
    const [found, summary, platform] = await Promise.all([get("/alarms", query()), get("/alarms/summary", { site: state.site }), get("/platform/alarms")]);
    if (mine !== asking) return;  // a later question is under way
    state.items = found.items;
    state.next = found.next;
    tell(summary);
    warn(platform.items);
    draw();
  } catch (error) {
    if (error.status === 401) location.reload();
    const list = document.getElementById("list");
    if (list && !state.items.length) list.replaceChildren(el("li", { class: "empty" }, failed(error, load)));
    else say(error.status === 0 ? t("offline") : error.message);
  }
}

function tell(summary) {
  const place = document.getElementById("summary");
  if (!place) return;
  place.replaceChildren(...["high", "medium", "low"].map((name) => el("span", { class: "count" },
    el("span", { class: `badge ${summary.open[name] ? name : "over"}` }, t(name)), " ", el("b", {}, summary.open[name]),
    summary.unacknowledged[name] ? el("span", { class: "quiet" }, ` · ${summary.unacknowledged[name]} ${t("unacknowledged")}`) : null)),
    summary.suppressed ? el("span", { class: "count quiet" }, `${t("shelved")} ${summary.suppressed}`) : "");
  document.title = `${summary.unacknowledged.high ? `(${summary.unacknowledged.high}) ` : ""}${t("alarms")} · Headworks`;
}

function warn(items) {
  document.getElementById("platform")?.replaceChildren(...items.map((one) => el("li", {},
    el("span", { class: `badge ${one.priority}` }, t(one.priority)),
    el("a", { href: one.kind === "path" ? "#/fleet" : "#/platform" }, el("b", {}, t(`p_${one.kind}`)), " ", one.name,
      one.count ? ` · ${one.count} ${t(one.kind === "channel" ? "letters" : "devices_")}` : ` · ${one.message}`),
    el("span", { class: "age" }, one.since ? age(one.since) : ""))));
}

// What was asked for once is there after the next live update too, up to what one answer may hold.
async function more() {
  if (state.limit < MOST) {
    state.limit += PAGE;
    return load();
  }
  const found = await get("/alarms", query(state.next));
  const known = new Set(state.items.map((alarm) => alarm.number));
  state.items.push(...found.items.filter((alarm) => !known.has(alarm.number)));
  state.next = found.next;
  return draw();
}

function draw() {
  const list = document.getElementById("list");
  if (!list) return;
  state.at = Math.min(state.at, Math.max(0, state.items.length - 1));
  state.chosen = new Set([...state.chosen].filter((number) => state.items.some((alarm) => alarm.number === number)));
  // Only rows that have changed are made anew: what is focused stays focused, and a storm costs little.
  const old = new Map([...list.querySelectorAll("li[data-number]")].map((line) => [line.dataset.key, line]));
  const rows = state.items.map((alarm) => { const key = rowKey(alarm); return old.get(key) ?? row(alarm, key); });
  // "Nothing needs work" is said of everything only, never of what a filter has left.
  const nothing = state.site || state.priority || state.text ? "noneFits" : { open: "noAlarms", shelved: "noShelved", all: "noAlarmsAtAll" }[state.view];
  if (!state.items.length) rows.push(empty(t(nothing), "li"));
  if (state.next) rows.push(el("li", { class: "more" }, el("button", { onclick: more }, t("more"))));
  const same = list.children.length === rows.length && rows.every((line, index) => list.children[index] === line);
  if (!same) list.replaceChildren(...rows);
  list.querySelectorAll(".age").forEach((place) => { place.textContent = age(place.dataset.since); });
  mark();
}

const rowKey = (alarm) => [alarm.number, alarm.state, alarm.priority, alarm.message, alarm.suppressions, document.documentElement.lang].join("|");

function row(alarm, key) {
  const fresh = alarm.state === "unacknowledged" || alarm.state === "returned_unacknowledged";
  return el("li", { class: fresh ? "new" : "", "data-number": alarm.number, "data-key": key },
    el("label", { class: "pick" }, el("input", { type: "checkbox", "aria-label": alarm.tag || alarm.device, checked: state.chosen.has(alarm.number),
      onchange: (event) => { state.at = state.items.findIndex((one) => one.number === alarm.number); toggle(alarm.number, event.target.checked); } })),
    badge(alarm),
    el("span", { class: "state" }, t(alarm.state), alarm.suppressions.length ? ` · ${alarm.suppressions.map((one) => t(one === "shelved" ? "shelved_" : one)).join(", ")}` : ""),
    el("a", { class: "what", href: `#/alarms/${alarm.number}` }, el("b", {}, alarm.tag || alarm.device), " ", said(alarm.message)),
    el("span", { class: "place" }, [alarm.site, alarm.area].filter(Boolean).join(" · ")),
    el("span", { class: "age", title: time(alarm.since, alarm.site), "data-since": alarm.since }, age(alarm.since)));
}

function toggle(number, on) {
  if (on) state.chosen.add(number); else state.chosen.delete(number);
  mark();
}

function mark() {
  document.querySelectorAll("#list li[data-number]").forEach((line, index) => {
    if (index === state.at) line.setAttribute("aria-current", "true"); else line.removeAttribute("aria-current");
    line.classList.toggle("open", Number(line.dataset.number) === shown);
    line.querySelector("input").checked = state.chosen.has(Number(line.dataset.number));
  });
  const count = state.chosen.size ? ` (${state.chosen.size})` : "";
  document.body.classList.toggle("choosing", state.chosen.size > 0);
  const may = session.role !== "viewer";
  for (const [id, text] of [["acknowledge", t("acknowledge")], ["shelve", t("shelve")]]) {
    const button = document.getElementById(id);
    if (button) { button.textContent = text + count; button.disabled = !may || !targets().length; button.title = may ? "" : t("only"); }
  }
}

// With keys the row that is marked is meant; a finger means only what it has chosen.
const touched = matchMedia("(hover: none), (max-width: 46rem)");
function targets() {
  if (state.chosen.size) return [...state.chosen];
  if (shown) return [shown];
  if (touched.matches) return [];
  return state.items[state.at] ? [state.items[state.at].number] : [];
}

// One step on the chosen alarms, what became of it, and the list as it is then.
async function step(work, numbers = targets()) {
  if (!numbers.length) return;
  let outcome;
  try { outcome = await work(numbers); } catch (error) { say(error.message); }
  if (outcome) {
    const why = [...new Set((outcome.refused || []).map((one) => one.why))].join("; ");
    say(`${(outcome.done || numbers).length} ${t("done")}` + (why ? `, ${outcome.refused.length} ${t("refused")}: ${why}` : ""));
    state.chosen.clear();
    await refresh();
  }
}

async function open() {
  const place = document.getElementById("detail");
  if (!place) return;
  place.parentElement.classList.add("chosen");
  document.body.classList.add("reading");
  const number = shown;
  const made = await detail(number, session, step);
  if (number !== shown) return;
  place.replaceChildren(made);
  mark();
}

function close() {
  document.getElementById("detail")?.replaceChildren();
  document.querySelector(".list-and-detail")?.classList.remove("chosen");
  document.body.classList.remove("reading");
  mark();
}

export function key(event) {
  const move = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
  const here = state.items[state.at];
  const may = session.role !== "viewer";
  if (move) {
    state.at = Math.max(0, Math.min(state.items.length - 1, state.at + move));
    mark();
    document.querySelector("#list li[aria-current]")?.scrollIntoView({ block: "nearest" });
  } else if (event.key === "x" && here) toggle(here.number, !state.chosen.has(here.number));
  else if (event.key === "X") { const all = state.chosen.size < state.items.length; state.items.forEach((one) => toggle(one.number, all)); }
  else if (event.key === "a" && may) step(acknowledge);
  else if (event.key === "s" && may) step(shelve);
  else if (event.key === "Enter" && here) location.hash = `#/alarms/${here.number}`;
  else if (event.key === "/") document.getElementById("search")?.focus();
  else if (event.key === "Escape") location.hash = "#/alarms";
  else return;
  event.preventDefault();
}
