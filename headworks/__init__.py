"""What a user starts: CLI, settings, wiring of the rooms, embedded services."""
