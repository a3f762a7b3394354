"""The connection filters that pymosn has itself: `{"type": "python", "config": {"name": ..., "config": ...}}`."""
