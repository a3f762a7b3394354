"""Stream filters, one file each."""
