"""Programs with client libraries that others wrote, each run by itself with its own packages (`make peers`)."""
