"""Values, headers, addresses and bytes that programs have stumbled over."""

from typing import Any

VALUES: list[Any] = [
    None, True, -1, 0, 2**31, 2**53 + 1, -(2**63), 10**400, 1e308, float("nan"), float("inf"), "", " ", "\0", "\ud800", "a\udfff",
    "null", "../../etc/passwd", "%00", "{{7*7}}", "'; DROP TABLE jobs; --", "<script>", "\u202e\u0301" * 50, "🐈" * 500,
    "a" * 70_000, "\r\nX-Injected: 1", [], {}, [[]], [None] * 3000, {"": {}}, {"__proto__": 1}, {"kind": "no-such"}, "9" * 5000,
    "AAAA", "data:,x", "file:///etc/passwd", "http://127.0.0.1:1/", {"$ref": "#"}, [1e400] * 3,
    "cat@0", "cat@-1", "cat@99999999999999999999", "*",
]  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get", "X" * 50)
HEADERS: list[tuple[str, str]] = [
    ("Range", "bytes=" + "9" * 5000 + "-"), ("Range", "bytes=0-0,1-1,2-2"), ("Range", "bytes=-0"), ("Range", "bytes=5-2"),
    ("Last-Event-ID", "9" * 400), ("Last-Event-ID", "0-0\x7f"), ("If-None-Match", '"' * 3000), ("If-Range", "Wed, 99 Foo 0000"),
    ("Prefer", "wait=-1"), ("Prefer", "wait=" + "9" * 300), ("Prefer", "wait=0.5, respond-async"),
    ("Idempotency-Key", "a" * 9000),
    ("Idempotency-Key", ""), ("Host", "evil.example"), ("Host", ""), ("Origin", "https://evil.example"), ("Origin", "null"),
    ("Sec-Fetch-Site", "cross-site"), ("Content-Type", "text/plain"), ("Content-Type", "application/json; charset=utf-7"),
    ("Content-Type", "multipart/form-data; boundary=" + "b" * 5000), ("Content-Encoding", "gzip"), ("Expect", "100-continue"),
    ("Authorization", "Bearer ovam_" + "a" * 43), ("Authorization", "Basic Og=="), ("Authorization", "Bearer"),
    ("Accept", "x/\x7f"), ("X-Forwarded-For", "1" * 3000), ("X-Request-ID", "a" * 5000), ("Cookie", "a=" * 3000),
    ("Upgrade", "websocket"), ("Accept-Encoding", "*;q=9"),
]  # fmt: skip
SEGMENTS = (
    "", ".", "..", "%2e%2e", "%00", "%ff", "%2f", "a" * 3000, "*", "🐈", "0" * 26, "image-0.png", "..%5c", ";", "cat@1", "-",
)  # fmt: skip
NUMBERS = ("0", "-1", "1e3", "101", "9" * 500, "nan")
BELOW_A_JOB = ("", "/events", "/artifacts/image-0.png", "/cancel", "/probe")
HEAD = "POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}\r\n{more}\r\n\r\n"
CONNECTIONS = (
    HEAD.replace("{more}", "Content-Length: 30") + '{"prompt": "a car"}',
    HEAD.replace("{more}", "Content-Length: 30\r\nTransfer-Encoding: chunked") + "zz\r\n",
    HEAD.replace("{more}", "Transfer-Encoding: chunked") + "ffffffffffffffffffff\r\n",
    "GET / HTTP/9.9\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET /healthz HTTP/1.1\r\n" + "A: b\r\n" * 5000 + "\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "\x16\x03\x01",
)
"""What is sent over a connection of its own, perhaps only the first part of it."""
