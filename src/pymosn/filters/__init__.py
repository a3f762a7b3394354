"""The extensions we ship."""
