"""pymosn: MOSN reimplemented in Python. `docs/architecture.md` follows one request through the four layers."""
