"""Rules, the alarm engine and its lifecycle (pure), and the notifiers that carry its announcements."""
