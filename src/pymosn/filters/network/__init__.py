"""Network filters, one file each."""
