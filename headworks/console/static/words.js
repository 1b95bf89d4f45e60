// Words in the language that was chosen, times in a site's zone, numbers and units. The texts are in texts.js.

import { METRICS, TEXTS } from "./texts.js";

let language = localStorage.getItem("language") || (navigator.language.startsWith("zh") ? "zh" : "en");
let zone = "UTC";
const zones = new Map();

export const t = (key) => TEXTS[language][key] ?? TEXTS.en[key] ?? key;
export const current = () => language;
export function setLanguage(wanted) {
  language = wanted;
  localStorage.setItem("language", wanted);
  document.documentElement.lang = wanted === "zh" ? "zh-Hans" : "en";
}
export function setZone(name, site) { if (site === undefined) zone = name; else zones.set(site, name); }

export function time(at, site) {
  if (!at) return "";
  const timeZone = zones.get(site) || zone;
  // Swedish writes 2026-11-29 14:42:46, as ISO 8601 does and every language reads.
  return new Intl.DateTimeFormat("sv-SE", {
    timeZone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
  }).format(new Date(at));
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const units = language === "zh" ? ["秒", "分", "小时", "天"] : ["s", "min", "h", "d"];
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} ${units[0]}`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} ${units[1]}`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} ${units[2]}`;
  return `${Math.round(seconds / 86400)} ${units[3]}`;
}
export const age = (at) => span((Date.now() - new Date(at).getTime()) / 1000);
const SIGNS = { degC: "°C", "m3/h": "m³/h", m3: "m³", "1": "", "N*m": "N·m", rpm: "min⁻¹" };
export const sign = (unit) => SIGNS[unit] ?? unit;
// A message of a rule has units as the catalogue spells them, behind numbers.
export const said = (message) => message.replace(/(\d) (degC|m3\/h|m3|N\*m|rpm)(?![\w/])/g, (_, digit, unit) => `${digit} ${sign(unit)}`);
export const number = (value, digits = 3) => new Intl.NumberFormat(language === "zh" ? "zh-CN" : "en-GB", { maximumSignificantDigits: digits + 1 }).format(value);
export const metricName = (name) => METRICS[language][name] ?? name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
