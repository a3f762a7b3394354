"""All members."""

from __future__ import annotations

from tests.hostile import edge_table, head_table, odd_table, reply_table, request_table
from tests.hostile.cases import ReplyCase, RequestCase

REQUESTS: list[RequestCase] = request_table.TABLE + edge_table.EDGES + head_table.HEADS + odd_table.REQUESTS
REPLIES: list[ReplyCase] = reply_table.TABLE + odd_table.REPLIES
