"""The only room with SQL: migrations, editions, writing, registry, quarantine, alarm journal."""
