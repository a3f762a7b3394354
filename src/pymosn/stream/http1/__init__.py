"""HTTP/1 streams: one at a time per connection."""
