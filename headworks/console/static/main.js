// The frame: log-in, the menu, which page is shown, live updates, keys.

import { ApiError, call, follow, get, post, setCsrf } from "./api.js";
import * as list from "./alarms.js";
import { asset } from "./asset.js";
import { el, failed, say } from "./dom.js";
import { fleet } from "./fleet.js";
import { kpis } from "./performance.js";
import { platform } from "./platform.js";
import { sites } from "./sites.js";
import { current, setLanguage, setZone, t } from "./words.js";

const PAGES = { alarms: list.alarms, sites, fleet, kpis, platform };
const SHOWN = { ...PAGES, assets: asset };
const page = document.getElementById("page");
let session = null;
let shown = "";
let live = false;

// Back from OpenID Connect the address may say why somebody did not get in; and they wanted to see a certain page.
const refused = new URLSearchParams(location.search).get("login")?.match(/^[a-z_]{1,12}$/)?.[0];
const wanted = sessionStorage.getItem("page");
if (refused || wanted) history.replaceState(null, "", location.pathname + (location.hash || wanted || ""));
sessionStorage.removeItem("page");

async function begin() {
  setLanguage(current());
  document.querySelector(".skip").textContent = t("skip");
  try {
    session = await get("/session");
  } catch (error) {
    return login(error instanceof ApiError && error.status === 0 ? t("offline") : refused ? t(`login_${refused}`) : "");
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
  get("/session/ways").then(({ oidc }) => { if (oidc) form.querySelector("label").before(...signIn(oidc)); }).catch(() => {});
  document.getElementById("top").replaceChildren();
  page.replaceChildren(form);
  field.focus();
}

function signIn(provider) {
  const page = () => sessionStorage.setItem("page", location.hash);
  const text = (key) => t(key).replace("{}", provider);
  // Whoever has logged out here is still signed in there, and the next at this desk would come in by their name.
  const out = sessionStorage.getItem("out") ? [el("p", { class: "quiet" }, text("stillIn"), " ", el("a", { href: "oidc/end" }, text("signOut")))] : [];
  sessionStorage.removeItem("out");
  return [el("a", { class: "button", href: "oidc/begin", onclick: page }, text("signIn")), ...out];
}

function head() {
  document.getElementById("top").replaceChildren(
    el("strong", {}, "Headworks"),
    el("nav", {}, Object.keys(PAGES).map((name) => el("a", { href: `#/${name}`, "aria-current": shown === name ? "page" : undefined }, t(name))),
      session.grafana_url ? el("a", { href: session.grafana_url, rel: "noreferrer" }, t("grafana")) : null),
    el("span", { class: "right" }, el("span", { class: live ? "live" : "badge look" }, t(live ? "live" : "notLive")), el("span", { class: "name" }, session.name),
      el("button", { onclick: () => { setLanguage(current() === "zh" ? "en" : "zh"); head(); show(); } }, t("language")),
      el("button", { onclick: async () => { await call("DELETE", "/session"); sessionStorage.setItem("out", "1"); location.reload(); } }, t("logout"))));
}

let step = 0;
async function show(event) {
  const mine = ++step;
  const [name, ...argument] = location.hash.replace(/^#\//, "").split("/");
  shown = name || "alarms";
  head();
  document.title = `${t(shown)} · Headworks`;
  document.body.classList.toggle("reading", shown === "alarms" && argument.length > 0);
  if (!(shown in SHOWN)) return page.replaceChildren(el("p", { class: "empty" }, t("notFound")));
  // A page is put together beside the one that is seen; where it takes long, that is said.
  const slow = setTimeout(() => { if (mine === step && shown !== "alarms" && event !== AGAIN) page.replaceChildren(el("p", { class: "empty" }, t("loading"))); }, 400);
  try {
    await SHOWN[shown](page, session, ...argument);
    if (mine === step) Object.assign(page.dataset, { page: location.hash, at: Math.round(performance.now()) });
    if (shown !== "alarms") page.removeAttribute("data-language");
  } catch (error) {
    if (error.status === 401) return login("");
    page.replaceChildren(failed(error, show));
  } finally {
    clearTimeout(slow);
  }
  return undefined;
}

// What changes in a burst is looked at once: the list soon, pages of a thousand tiles now and then.
const AGAIN = {};
let waiting = null;
function changed() {
  const pause = { alarms: 150, sites: 5000, platform: 2000 }[shown];
  if (waiting || !pause) return;
  waiting = setTimeout(async () => {
    waiting = null;
    if (document.hidden) return;
    if (shown === "alarms") await list.refresh(); else if (shown === "sites" || shown === "platform") await show(AGAIN);
  }, pause);
}
addEventListener("visibilitychange", () => { if (session && !document.hidden) changed(); });

addEventListener("hashchange", show);
addEventListener("keydown", (event) => {
  if (!session || shown !== "alarms" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input:not([type=checkbox]), textarea, select, dialog, button, a") && event.key !== "Escape") return;
  list.key(event);
});
begin();
