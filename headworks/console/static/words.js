// Texts in English and Chinese, and times in a site's zone. Another language is another entry here.

const TEXTS = {
  en: {
    alarms: "Alarms", sites: "Sites", fleet: "Fleet", kpis: "Performance", logout: "Log out", language: "中文", skip: "To the page",
    token: "Token", login: "Log in", loginHint: "The first start shows the admin's token, or keeps it in the file first-admin-token. `headworks tokens add` makes others.",
    live: "live", notLive: "no live updates", offline: "The platform cannot be reached.", high: "HIGH", medium: "MEDIUM", low: "LOW",
    unacknowledged: "unacknowledged", acknowledged: "acknowledged", returned_unacknowledged: "returned", latched: "latched", normal: "over",
    acknowledge: "Acknowledge", shelve: "Shelve…", reset: "Reset", comment: "Comment…", all: "All sites", search: "Tag or text",
    noAlarms: "No alarm needs work.", more: "More", cause: "Cause", consequence: "Consequence", action: "What to do", since: "Since",
    learned: "Known here since", over: "Over", journal: "Journal", back: "‹ Back", reason: "Why (stands in the journal)", howLong: "For how long",
    cancel: "Cancel", remark: "Remark", done: "done", refused: "not done", keys: "Keys: j k move · x choose · a acknowledge · s shelve · Enter open · / search",
    every: "Every priority", assets: "assets", noSites: "No device is registered yet: headworks devices add.", zone: "time zone", lost: "not heard",
    contact: "Contact", heard: "Last heard", signal: "Signal", battery: "Battery", outage: "Nobody is heard by", noLost: "Every device is heard of.",
    heard_: "heard", asleep: "asleep", late: "late", cut_off: "cut off", flat_battery: "flat battery", out_of_coverage: "out of coverage", silent: "silent", never_heard: "never heard",
    nameplate: "Nameplate", latest: "Latest values", trends: "Last 24 hours", quarantine: "Quarantine", noValues: "It has not reported yet.", value: "Value", quality: "Quality", asOf: "As of",
    good: "good", uncertain: "uncertain", bad: "bad", openAlarms: "Alarms", kpiHint: "Last 30 days, by ISA-18.2; a site counts as one operator. Targets: about 1 in 10 minutes, 2 at most; below 1 % of the time in flood; no chattering; fewer than 5 stale.",
    perTen: "In 10 min", most: "Most", flood: "In flood", top10: "Top 10", chattering: "Chattering", stale: "Stale", toAck: "To acknowledge", site: "Site", count: "Alarms",
    frequent: "Most frequent", what: "What", share: "Share", notFound: "There is no such page.", shelved: "shelved", by: "by", only: "Only an operator may do this.", showAll: "Also what is over", grafana: "Dashboards", maker: "Maker", model: "Model", serial: "Serial", profile: "Profile", unit: "Unit", interval: "Reports every", kind: "Kind", chosen: "chosen",
  },
  zh: {
    alarms: "报警", sites: "站点", fleet: "设备", kpis: "报警绩效", logout: "退出", language: "English", skip: "转到页面",
    token: "令牌", login: "登录", loginHint: "首次启动会显示管理员令牌，或保存在文件 first-admin-token 中。用 headworks tokens add 可创建其他令牌。",
    live: "实时", notLive: "无实时更新", offline: "无法连接平台。", high: "高", medium: "中", low: "低",
    unacknowledged: "未确认", acknowledged: "已确认", returned_unacknowledged: "已恢复未确认", latched: "锁存", normal: "已结束",
    acknowledge: "确认", shelve: "搁置…", reset: "复位", comment: "备注…", all: "全部站点", search: "位号或文字",
    noAlarms: "没有需要处理的报警。", more: "更多", cause: "原因", consequence: "后果", action: "处理措施", since: "开始",
    learned: "平台获知", over: "结束", journal: "日志", back: "‹ 返回", reason: "原因（写入日志）", howLong: "时长",
    cancel: "取消", remark: "备注", done: "已完成", refused: "未完成", keys: "按键：j k 移动 · x 选择 · a 确认 · s 搁置 · 回车 打开 · / 搜索",
    every: "全部优先级", assets: "台资产", noSites: "尚未登记设备：headworks devices add。", zone: "时区", lost: "失联",
    contact: "通信", heard: "最近上报", signal: "信号", battery: "电池", outage: "整条通道无上报：", noLost: "所有设备均有上报。",
    heard_: "正常", asleep: "休眠", late: "延迟", cut_off: "通道中断", flat_battery: "电池耗尽", out_of_coverage: "无覆盖", silent: "静默", never_heard: "从未上报",
    nameplate: "铭牌", latest: "最新值", trends: "最近 24 小时", quarantine: "隔离区", noValues: "尚未上报。", value: "数值", quality: "质量", asOf: "时间",
    good: "好", uncertain: "可疑", bad: "坏", openAlarms: "报警", kpiHint: "最近 30 天，按 ISA-18.2；每个站点视为一名操作员。目标：每 10 分钟约 1 条，至多 2 条；泛滥时间低于 1 %；无抖振；陈旧报警少于 5 条。",
    perTen: "每 10 分钟", most: "最多", flood: "泛滥", top10: "前十占比", chattering: "抖振", stale: "陈旧", toAck: "确认用时", site: "站点", count: "报警数",
    frequent: "最频繁的报警", what: "内容", share: "占比", notFound: "没有这个页面。", shelved: "已搁置", by: "由", only: "仅操作员可执行。", showAll: "包括已结束", grafana: "仪表板", maker: "制造商", model: "型号", serial: "序列号", profile: "设备类型", unit: "单元", interval: "上报周期", kind: "类别", chosen: "已选",
  },
};

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
  return new Intl.DateTimeFormat(language === "zh" ? "zh-CN" : "en-GB", {
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
export const number = (value, digits = 3) => new Intl.NumberFormat(language === "zh" ? "zh-CN" : "en-GB", { maximumSignificantDigits: digits + 1 }).format(value);
