"""What HTTP/1 and HTTP/2 share: the fields that a proxy interprets, limits, and the policy for irregular requests."""
