"""HTTP/1 messages that many conversations use, and the time at which they take place."""

#: The fake wall clock always shows the example time of RFC 9110.
WALL = 784111777.0
DATE = b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"

#: Both are forwarded unchanged.
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\n\r\nhi"
