"""pymosn: MOSN's network proxy in Python. `docs/architecture.md` follows one request through the four layers."""
