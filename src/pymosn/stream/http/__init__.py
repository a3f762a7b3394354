"""What HTTP/1 and HTTP/2 have in common on a listener."""
