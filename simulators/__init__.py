"""Plants, faults, fleets and replays that talk to the gateways over real sockets."""
