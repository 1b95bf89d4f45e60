// Every site with all of its assets at once: grey tiles, and colour where somebody is needed.

import { get } from "./api.js";
import { LOST, contactWord } from "./contact.js";
import { el, empty } from "./dom.js";
import { t } from "./words.js";

// Sites as cards; the tiles of a site are asked for when it comes near the screen.
export async function sites(page, _, wanted) {
  const found = (await get("/sites")).items.filter((site) => !wanted || site.site === decodeURIComponent(wanted));
  const place = el("div", {});
  const near = new IntersectionObserver((entries) => {
    for (const one of entries.filter((entry) => entry.isIntersecting)) {
      near.unobserve(one.target);
      fill(one.target, found[Number(one.target.dataset.index)].site);
    }
  }, { rootMargin: "600px" });
  for (const [index, site] of found.entries()) {
    const tiles = el("div", { class: "tiles", "data-index": index });
    place.append(el("section", { class: "site" }, el("h2", {}, el("a", { href: `#/sites/${encodeURIComponent(site.site)}` }, site.site || t("noSite")),
      site.priority ? el("span", { class: `badge ${site.priority}` }, t(site.priority)) : null,
      el("span", { class: "quiet" }, [`${site.assets} ${t("assets")}`, site.alarmed ? `${site.alarmed} ${t("alarmed")}` : "", site.unacknowledged ? `${site.unacknowledged} ${t("unacknowledged")}` : "",
        site.not_heard ? `${site.not_heard} ${t("lost")}` : "", site.time_zone].filter(Boolean).join(" · "))), tiles));
    near.observe(tiles);
  }
  // Room is kept for the tiles that are to come, so that nothing moves when they do.
  const rem = 16, narrow = matchMedia("(max-width: 46rem)").matches;
  const columns = Math.max(1, Math.floor((page.clientWidth - 2 * rem) / ((narrow ? 5.1 : 5.6) * rem)));
  place.querySelectorAll(".tiles").forEach((tiles, index) => { tiles.style.minHeight = `${Math.ceil(found[index].assets / columns) * (narrow ? 3.15 : 2.5) - 0.2}rem`; });
  page.replaceChildren(el("h1", {}, wanted ? el("a", { href: "#/sites" }, t("sites")) : t("sites")), found.length ? place : empty(t("noSites")));
}

async function fill(tiles, site) {
  let cursor;
  do {
    const found = await get("/assets", { site, limit: 1000, cursor }).catch(() => ({ items: [], next: null }));
    const made = document.createDocumentFragment();
    made.append(...found.items.map(tile));
    tiles.append(made);
    cursor = found.next;
  } while (cursor && tiles.isConnected);
}

function tile(asset) {
  const lost = LOST.has(asset.contact);
  const what = asset.priority ? t(asset.priority) : asset.out_of_service ? t("out_of_service") : lost ? contactWord(asset.contact) : "";
  return el("a", { class: `tile ${asset.priority || ""} ${lost ? "lost" : ""}`, href: `#/assets/${encodeURIComponent(asset.identity)}`,
    title: [asset.tag, asset.area, asset.kind, contactWord(asset.contact)].filter(Boolean).join(" · ") }, asset.tag || asset.identity, what ? el("small", {}, what) : null);
}
