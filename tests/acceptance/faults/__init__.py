"""What breaks, by fault: real processes, senders that keep every acknowledgement, and the database as the judge."""
