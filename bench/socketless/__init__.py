"""What stands in for the sockets of a worker while `bench.instructions` counts."""
