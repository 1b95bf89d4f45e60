// The console's texts, in English and Chinese. Another language is another entry here.

export const TEXTS = {
  en: {
    alarms: "Alarms", sites: "Sites", fleet: "Fleet", kpis: "Performance", logout: "Log out", language: "中文", skip: "To the page",
    token: "Token", login: "Log in", loginHint: "The first start shows the admin's token, or keeps it in the file first-admin-token. `headworks tokens add` makes others.",
    idle: "idle on some", signIn: "Sign in with {}", stillIn: "You may still be signed in at {}.", signOut: "Sign out there", login_no_end: "The provider has no page to sign out at.", login_unavailable: "The sign-in provider does not answer. Try again later, or log in with a token.", login_expired: "That took too long, or was begun elsewhere. Sign in again.",
    login_refused: "The sign-in was refused. The platform's log and audit trail say why.", login_no_role: "You are known, but have no role here. Ask whoever runs the platform.", login_often: "Too many failed attempts; wait a minute.", login_database: "The platform's database does not answer. Try again later.",
    live: "live", notLive: "no live updates", offline: "The platform cannot be reached.", high: "HIGH", medium: "MEDIUM", low: "LOW",
    unacknowledged: "unacknowledged", acknowledged: "acknowledged", returned_unacknowledged: "returned", latched: "latched", normal: "over",
    acknowledge: "Acknowledge", shelve: "Shelve…", reset: "Reset", comment: "Comment…", all: "All sites", search: "Tag or text",
    noAlarms: "No alarm needs work.", noneFits: "No alarm fits this search and these filters.", noAlarmsAtAll: "There has been no alarm.", more: "More", cause: "Cause", consequence: "Consequence", action: "What to do", since: "Since",
    learned: "Known here since", over: "Over", journal: "Journal", back: "‹ Back", reason: "Why (stands in the journal)", howLong: "For how long",
    cancel: "Cancel", remark: "Remark", done: "done", refused: "not done", keys: "Keys: j k move · x choose · a acknowledge · s shelve · Enter open · / search",
    every: "Every priority", assets: "assets", noSites: "No device is registered yet: headworks devices add.", zone: "time zone", lost: "not heard",
    contact: "Contact", heard: "Last heard", signal: "Signal", battery: "Battery", outage: "Nobody is heard by", noLost: "Every device is heard of.",
    heard_: "heard", asleep: "asleep", late: "late", cut_off: "cut off", flat_battery: "flat battery", out_of_coverage: "out of coverage", silent: "silent", never_heard: "never heard",
    nameplate: "Nameplate", latest: "Latest values", trends: "Last 24 hours", quarantine: "Quarantine", noValues: "It has not reported yet.", value: "Value", quality: "Quality", asOf: "As of",
    good: "good", uncertain: "uncertain", bad: "bad", openAlarms: "Alarms", kpiHint: "Last 30 days, or as long as a site is here, by ISA-18.2; a site counts as one operator. Targets: about 1 in 10 minutes, 2 at most; below 1 % of the time in flood; no chattering; fewer than 5 stale.",
    perTen: "In 10 min", most: "Most", flood: "In flood", top10: "Top 10", chattering: "Chattering", times: "Times", lastTime: "Last", stale: "Stale", toAck: "To acknowledge", site: "Site", count: "Alarms",
    frequent: "Most frequent", what: "What", share: "Share", notFound: "There is no such page.", shelved: "shelved", by: "by", only: "Only an operator may do this.", showAll: "Also what is over", grafana: "Dashboards", maker: "Maker", model: "Model", serial: "Serial", profile: "Profile", unit: "Unit", interval: "Reports every", kind: "Kind", chosen: "chosen",
    alarmed: "with alarms", viewOpen: "To work on", viewShelved: "Shelved and suppressed", viewAll: "Also what is over", platform: "Platform", unshelve: "End it…", until: "until", noShelved: "Nothing is shelved or suppressed.", remarkOptional: "Remark (optional)", learnedLate: "late", parts: "Parts", rules: "Rules", rule: "Rule", condition: "Condition", priority: "Priority", open: "Open", days30: "30 days", health: "Health", ok: "ok", noQuarantine: "Nothing is in quarantine.", reasonHead: "Reason", detail: "Detail", device: "Device", asset: "Asset", state: "State", where: "Where", p_channel: "Notifications cannot be delivered", p_path: "Nobody is heard by a whole path", p_rule: "A rule cannot be calculated", p_part: "A part of the platform is not well", letters: "letters", devices_: "devices", radio: "Radio and battery", outOfService: "Out of service…", intoService: "Put into service…", suppress: "Suppress…", why: "Why", first: "Registered", noFrequent: "No alarms in 30 days.", loading: "Loading…", retry: "Try again", failed: "This could not be loaded.", why_late: "later than its interval and sleep allow", why_silent: "not heard for long; no other reason is known", why_cut_off: "its gateway or path is out", why_flat_battery: "its last battery level was near empty", why_out_of_coverage: "its last signal was at the edge of coverage", why_never_heard: "registered, never reported", raised: "raised", cleared: "returned to normal", amended: "amended", retracted: "withdrawn", commented: "commented", shelved_: "shelved", unshelved: "unshelved", suppressed: "suppressed", unsuppressed: "no longer suppressed", out_of_service: "out of service", in_service: "put into service", selectAll: "Choose all shown", noSite: "no site", limitOf: "Limit", now: "now",
  },
  zh: {
    alarms: "报警", sites: "站点", fleet: "设备", kpis: "报警绩效", logout: "退出", language: "English", skip: "转到页面",
    token: "令牌", login: "登录", loginHint: "首次启动会显示管理员令牌，或保存在文件 first-admin-token 中。用 headworks tokens add 可创建其他令牌。",
    idle: "部分设备缺少所需数据", signIn: "通过 {} 登录", stillIn: "您在 {} 可能仍处于登录状态。", signOut: "在那里退出", login_no_end: "登录服务没有退出页面。", login_unavailable: "登录服务无响应。请稍后重试，或使用令牌登录。", login_expired: "登录超时，或并非从此处发起。请重新登录。",
    login_refused: "登录被拒绝，原因见平台日志与审计记录。", login_no_role: "您的身份已确认，但在此没有角色。请联系平台管理员。", login_often: "失败次数过多，请稍候再试。", login_database: "平台数据库无响应，请稍后重试。",
    live: "实时", notLive: "无实时更新", offline: "无法连接平台。", high: "高", medium: "中", low: "低",
    unacknowledged: "未确认", acknowledged: "已确认", returned_unacknowledged: "已恢复未确认", latched: "锁存", normal: "已结束",
    acknowledge: "确认", shelve: "搁置…", reset: "复位", comment: "备注…", all: "全部站点", search: "位号或文字",
    noAlarms: "没有需要处理的报警。", noneFits: "没有符合搜索与筛选条件的报警。", noAlarmsAtAll: "尚无报警。", more: "更多", cause: "原因", consequence: "后果", action: "处理措施", since: "开始",
    learned: "平台获知", over: "结束", journal: "日志", back: "‹ 返回", reason: "原因（写入日志）", howLong: "时长",
    cancel: "取消", remark: "备注", done: "已完成", refused: "未完成", keys: "按键：j k 移动 · x 选择 · a 确认 · s 搁置 · 回车 打开 · / 搜索",
    every: "全部优先级", assets: "台资产", noSites: "尚未登记设备：headworks devices add。", zone: "时区", lost: "失联",
    contact: "通信", heard: "最近上报", signal: "信号", battery: "电池", outage: "整条通道无上报：", noLost: "所有设备均有上报。",
    heard_: "正常", asleep: "休眠", late: "延迟", cut_off: "通道中断", flat_battery: "电池耗尽", out_of_coverage: "无覆盖", silent: "静默", never_heard: "从未上报",
    nameplate: "铭牌", latest: "最新值", trends: "最近 24 小时", quarantine: "隔离区", noValues: "尚未上报。", value: "数值", quality: "质量", asOf: "时间",
    good: "好", uncertain: "可疑", bad: "坏", openAlarms: "报警", kpiHint: "最近 30 天（新站点自接入起），按 ISA-18.2；每个站点视为一名操作员。目标：每 10 分钟约 1 条，至多 2 条；泛滥时间低于 1 %；无抖振；陈旧报警少于 5 条。",
    perTen: "每 10 分钟", most: "最多", flood: "泛滥", top10: "前十占比", chattering: "抖振", times: "次数", lastTime: "最近一次", stale: "陈旧", toAck: "确认用时", site: "站点", count: "报警数",
    frequent: "最频繁的报警", what: "内容", share: "占比", notFound: "没有这个页面。", shelved: "已搁置", by: "由", only: "仅操作员可执行。", showAll: "包括已结束", grafana: "仪表板", maker: "制造商", model: "型号", serial: "序列号", profile: "设备类型", unit: "单元", interval: "上报周期", kind: "类别", chosen: "已选",
    alarmed: "台有报警", viewOpen: "待处理", viewShelved: "已搁置与抑制", viewAll: "包括已结束", platform: "平台", unshelve: "结束…", until: "至", noShelved: "没有搁置或抑制的报警。", remarkOptional: "备注（可选）", learnedLate: "迟到", parts: "组件", rules: "规则", rule: "规则", condition: "条件", priority: "优先级", open: "未结", days30: "30 天", health: "状态", ok: "正常", noQuarantine: "隔离区为空。", reasonHead: "原因", detail: "详情", device: "设备", asset: "资产", state: "状态", where: "位置", p_channel: "通知无法送达", p_path: "整条通道无上报", p_rule: "规则无法计算", p_part: "平台组件异常", letters: "条通知", devices_: "台设备", radio: "无线与电池", outOfService: "停用…", intoService: "恢复投用…", suppress: "抑制…", why: "原因", first: "注册", noFrequent: "30 天内无报警。", loading: "加载中…", retry: "重试", failed: "加载失败。", why_late: "超过上报周期与休眠允许的时间", why_silent: "长时间无上报，原因未知", why_cut_off: "其网关或通道中断", why_flat_battery: "最后电量接近耗尽", why_out_of_coverage: "最后信号处于覆盖边缘", why_never_heard: "已注册，从未上报", raised: "触发", cleared: "恢复正常", amended: "修正", retracted: "撤回", commented: "备注", shelved_: "已搁置", unshelved: "结束搁置", suppressed: "已抑制", unsuppressed: "结束抑制", out_of_service: "停用", in_service: "恢复投用", selectAll: "选择全部", noSite: "无站点", limitOf: "限值", now: "现在",
  },
};

// Names of metrics; where one is missing, it is spelled from its name in the catalogue.
export const METRICS = {
  en: {"rsrp": "Signal power (RSRP)", "snr": "Signal to noise", "battery": "Battery"},
  zh: {
    clock_error: "时钟误差", pressure: "压力", pressure_max: "最高压力", pressure_min: "最低压力", suction_pressure: "吸入压力", outlet_pressure: "出口压力", flow: "流量", volume: "累计流量", reverse_volume: "反向累计", settlement_volume: "结算累计", level: "液位", temperature: "温度", running: "运行", speed: "转速", current: "电流", voltage: "电压", power: "功率", energy: "电能", vibration: "振动", acceleration: "加速度", bearing_temperature: "轴承温度", motor_temperature: "电机温度", insulation_resistance: "绝缘电阻", frequency: "频率", seal_leak: "密封泄漏", starts: "启动次数", position: "开度", position_command: "开度指令", torque: "扭矩", stroke_time: "行程时间", pressure_setpoint: "压力设定", overtorque: "过扭矩", valve_fault: "阀门故障", local_control: "就地控制", cycles: "动作次数", leak: "泄漏", burst: "爆管", reverse_flow: "反向流", empty_pipe: "空管", magnetic_tamper: "磁干扰", battery_low: "电池低", battery: "电池", battery_voltage: "电池电压", rsrp: "信号功率", snr: "信噪比", coverage_level: "覆盖等级", connected: "在线", enclosure_open: "箱门打开",
  },
};
