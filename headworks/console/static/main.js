// The frame: log-in, the menu, which page is shown, live updates, keys.

import { ApiError, call, follow, get, post, setCsrf } from "./api.js";
import * as list from "./alarms.js";
import { el, say } from "./dom.js";
import * as plant from "./plant.js";
import { current, setLanguage, setZone, t } from "./words.js";

const PAGES = ["alarms", "sites", "fleet", "kpis"];
const page = document.getElementById("page");
let session = null;
let shown = "";
let live = false;

async function begin() {
  setLanguage(current());
  document.querySelector(".skip").textContent = t("skip");
  try {
    session = await get("/session");
  } catch (error) {
    return login(error instanceof ApiError && error.status === 0 ? t("offline") : "");
  }
  setCsrf(session.csrf);
  setZone(session.time_zone);
  get("/sites").then((found) => found.items.forEach((site) => setZone(site.time_zone, site.site))).catch(() => {});
  follow(changed, (is) => { live = is; head(); });
  head();
  await show();
}

function login(why) {
  const field = el("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
  const form = el("form", { class: "card login", onsubmit: async (event) => {
    event.preventDefault();
    try { await post("/session", { token: field.value.trim() }); await begin(); } catch (error) { say(error.message); field.select(); }
  } }, el("h1", {}, "Headworks"), why ? el("p", { class: "card wrong" }, why) : null, el("label", { for: "token" }, t("token")), field, el("button", { class: "main" }, t("login")), el("p", { class: "quiet" }, t("loginHint")));
  document.getElementById("top").replaceChildren();
  page.replaceChildren(form);
  field.focus();
}

function head() {
  document.getElementById("top").replaceChildren(
    el("strong", {}, "Headworks"),
    el("nav", {}, PAGES.map((name) => el("a", { href: `#/${name}`, "aria-current": shown === name ? "page" : undefined }, t(name))),
      session.grafana_url ? el("a", { href: session.grafana_url, rel: "noreferrer" }, t("grafana")) : null),
    el("span", { class: "right" }, el("span", { class: live ? "" : "badge look" }, t(live ? "live" : "notLive")), el("span", { class: "name" }, session.name),
      el("button", { onclick: () => { setLanguage(current() === "zh" ? "en" : "zh"); head(); show(); } }, t("language")),
      el("button", { onclick: async () => { await call("DELETE", "/session"); location.reload(); } }, t("logout"))));
}

async function show() {
  const [name, argument] = location.hash.replace(/^#\//, "").split("/");
  shown = name || "alarms";
  head();
  document.title = `${t(shown)} · Headworks`;
  try {
    if (shown === "alarms") await list.alarms(page, session, argument);
    else if (shown === "assets") await plant.asset(page, session, decodeURIComponent(argument));
    else if (PAGES.includes(shown)) await plant[shown](page, session);
    else page.replaceChildren(el("p", { class: "empty" }, t("notFound")));
  } catch (error) {
    if (error.status === 401) return login("");
    page.replaceChildren(el("p", { class: "card wrong" }, error.status === 0 ? t("offline") : error.message));
  }
  return undefined;
}

let waiting;
function changed() {
  clearTimeout(waiting);
  waiting = setTimeout(() => { if (shown === "alarms") list.refresh(); else if (shown === "sites") show(); }, 150);
}

addEventListener("hashchange", show);
addEventListener("keydown", (event) => {
  if (!session || shown !== "alarms" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input:not([type=checkbox]), textarea, select, dialog, button, a") && event.key !== "Escape") return;
  list.key(event);
});
begin();
