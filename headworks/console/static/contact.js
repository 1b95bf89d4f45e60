// How a device's contact reads: who is late or lost, and why.

import { el } from "./dom.js";
import { t } from "./words.js";

export const LOST = new Set(["late", "silent", "cut_off", "flat_battery", "out_of_coverage"]);
export const contactWord = (state) => t(state === "heard" ? "heard_" : state);
export const contactBadge = (state) => el("span", { class: `badge ${state === "late" ? "look" : LOST.has(state) ? "act" : "over"}` }, contactWord(state));
