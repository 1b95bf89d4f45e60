"""What a technician reads: in the site's language and time, and nothing that is not known."""

from __future__ import annotations

import pytest

from alerts.messages import languages, template, word

TOLD = {
    "event": "raised", "rule": "hot", "title": "Bearing hot", "message": "at 96 degC, limit 90 degC",
    "priority": "high", "device": {"identity": "urn:1", "tag": "P 101", "site": "北站", "area": "Pumps", "unit": "U1"},
    "since": "2026-11-23T22:30:00Z", "announced_at": "2026-11-24T01:00:00Z", "seconds_late": 9000, "value": 96.04,
    "unit": "degC", "cleared_at": None, "limit": {"operator": ">", "value": 90.0},
    "guidance": {
        "cause": "no grease", "consequence": "seizure", "corrective_action": "grease it", "time_to_respond": "30m",
    },
}  # fmt: skip
LINK = "https://h/alarms?device={device}&tag={tag}"


def test_a_message_says_what_a_technician_needs() -> None:
    message = word(TOLD, "0123456789", "en", "Asia/Shanghai", LINK)
    assert message.subject == "[HIGH] P 101 Bearing hot"
    assert message.body.splitlines() == [
        "at 96 °C, limit 90 °C",
        "Where: P 101, 北站 / Pumps / U1",
        "Value: 96.04 °C",
        "Limit: > 90 °C",
        "Since: 2026-11-24 06:30:00 UTC+08:00",
        "Learned of it: 2026-11-24 09:00:00 UTC+08:00, 2:30:00 late",
        "Cause: no grease",
        "Consequence: seizure",
        "To do: grease it (within 30m)",
        "https://h/alarms?device=urn%3A1&tag=P%20101",
        "Reference: 01234567",
    ]


def test_it_reads_the_same_in_chinese() -> None:
    message = word(TOLD | {"notice": "escalation"}, "0123456789", "zh", "Asia/Shanghai")
    assert message.subject == "【高级报警 · 尚未确认，升级通知】P 101 Bearing hot"
    assert "开始时间：2026-11-24 06:30:00 UTC+08:00" in message.body
    assert "处理措施：grease it（30m 内）" in message.body


def test_what_is_not_known_is_left_out() -> None:
    place = {"identity": "urn:2", "tag": "", "site": "", "area": "", "unit": ""}
    bare = {"event": "raised", "rule": "r", "message": "it is", "priority": "low", "device": place}
    assert word(bare, "k", "en", "UTC").body == "it is\nReference: k"


def test_when_it_is_over_nobody_is_told_what_to_do() -> None:
    message = word(TOLD | {"event": "returned", "cleared_at": "2026-11-24T02:00:00Z"}, "k", "en", "UTC")
    assert message.subject == "[Back to normal] P 101 Bearing hot"
    assert "Back to normal: 2026-11-24 02:00:00 UTC+00:00" in message.body
    assert "grease" not in message.body


def test_a_summary_says_what_how_many_where_first_and_last() -> None:
    one = {"since": "2026-11-23T22:30:00Z", "tag": "P-1", "title": "Hot"}
    summary = {
        "event": "summary", "rule": "summary", "priority": "high", "device": TOLD["device"], "count": 17, "over": 2,
        "rules": [["Hot", 12], ["Dry", 5]], "more_rules": 3, "places": [["North / A", 17]], "more_places": 0,
        "first": one, "last": one | {"tag": "P-9"}, "tags": ["P-1", "P-2"],
    }  # fmt: skip
    message = word(summary, "0123456789", "en", "UTC")
    assert message.subject == "[HIGH · 17 alarms] North / A (17)"
    assert "17 alarms, 2 of them over already" in message.body
    assert "What: Hot (12), Dry (5), … +3" in message.body
    assert "Last: 2026-11-23 22:30:00 UTC+00:00 P-9 Hot" in message.body


@pytest.mark.parametrize("language", languages())
def test_every_language_has_every_word_of_english(language: str) -> None:
    english, other = template("en"), template(language)
    assert other.lead.keys() == english.lead.keys()
    assert other.notice.keys() == english.notice.keys()
    assert other.priorities.keys() == english.priorities.keys()
    assert (len(other.lines), len(other.lines_summary)) == (len(english.lines), len(english.lines_summary))
