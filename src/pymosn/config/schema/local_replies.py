"""`proxy.local_replies`: the form of local replies."""

from typing import Annotated, Final

from pymosn.config.schema.http_chain import LogFilter, Status
from pymosn.config.schema.router import HeaderToAdd
from pymosn.filters.settings import AnyMap, Block, own

#: The content types of formats without one.
TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"


class ReplyFormat(Block, kw_only=True):
    """The body of local replies, with variables as in access logs; `%local_reply_body%` is the body without a format."""

    text: Annotated[
        str, own("`%variable%` may be part of it; values are escaped as in access logs, except for the body")
    ] = ""
    json: Annotated[AnyMap, own("instead of `text`: an object with a format for each member")] = {}
    html: Annotated[str, own("instead of `text`: a page; values, also the body, are escaped as text of HTML")] = ""
    omit_empty: Annotated[bool, own("of `json`: leave out members without a value, instead of null")] = False
    content_type: Annotated[
        str, own("a media type; default: that of text/plain or text/html in UTF-8, of `json` application/json")
    ] = ""


class ReplyMapper(Block, kw_only=True):
    """Changes the local replies that fulfil a condition."""

    filter: Annotated[LogFilter | None, own("which replies, as `filter` of an access log; default: all")] = None
    status: Annotated[Status | None, own("instead of the reply's")] = None
    body: Annotated[str | None, own("instead of the reply's")] = None
    format: Annotated[ReplyFormat | None, own("instead of the common one")] = None
    formats: Annotated[
        list[ReplyFormat], own("several, of which the request's Accept chooses, instead of the common ones")
    ] = []
    headers_to_add: Annotated[list[HeaderToAdd], own("as `response_headers_to_add` of routes")] = []


class LocalReplies(Block, kw_only=True):
    """What becomes of the responses that the proxy makes itself, also redirects and direct responses; not of RPC."""

    mappers: Annotated[list[ReplyMapper], own("the first one that applies changes the reply")] = []
    format: Annotated[ReplyFormat | None, own("the body of all replies, unless the mapper has a format")] = None
    formats: Annotated[
        list[ReplyFormat], own("instead of `format`: several, of which the request's Accept chooses by type; else the first")
    ] = []
