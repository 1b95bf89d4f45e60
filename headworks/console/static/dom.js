// Small helpers to build elements: text is always set as text, never as markup.

import { t } from "./words.js";

export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked" || key === "disabled") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

let timer;
export function say(text) {
  const said = document.getElementById("said");
  said.textContent = text;
  clearTimeout(timer);
  timer = setTimeout(() => { said.textContent = ""; }, 6000);
}

// A dialog with one form; resolves to its values, or null where it was closed.
export function ask(title, fields, button, cancel) {
  return new Promise((resolve) => {
    const form = el("form", { method: "dialog" }, el("h2", {}, title), ...fields.flatMap(({ label, field }) => [
      el("label", { for: field.id }, label), field]),
      el("div", { class: "bar" },
        el("button", { type: "button", onclick: () => dialog.close() }, cancel),
        el("button", { class: "main", value: "ok" }, button)));
    const dialog = el("dialog", {}, form);
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "ok" ? Object.fromEntries(new FormData(form)) : null);
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export const pair = (name, value) => (value || value === 0 ? [el("dt", {}, name), el("dd", {}, value)] : []);
export const empty = (text, name = "p") => el(name, { class: "empty" }, text);

// What to show in place of what could not be loaded, with a way to try again.
export function failed(error, again) {
  return el("div", { class: "failed", role: "alert" }, el("p", {}, el("b", {}, t("failed")), " ", error.status === 0 ? t("offline") : error.message),
    el("button", { onclick: again }, t("retry")));
}

// `cards`: on a phone each row is a card of its own.
export function table(heads, rows, cards = false) {
  return el("div", { class: cards ? "scroll cards" : "scroll", tabindex: 0 }, el("table", {}, el("thead", {}, el("tr", {}, heads.map(([text, kind]) => el("th", { class: kind, scope: "col" }, text)))),
    el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, index) => el("td", { class: heads[index][1], "data-head": heads[index][0] }, cell)))))));
}
