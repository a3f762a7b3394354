"""The table of states of an exchange. tests/unit/proxy/test_exchange_stages.py compares the driver with it."""

from __future__ import annotations

from typing import Final

#: What each event does in each stage, and the stage afterwards where it changes. "-": cannot happen.
#: "502" and "504" are local replies, as is "reply"; response filters see them too, and may hold them.
EVENTS: Final[dict[str, tuple[str, ...]]] = {
    #                   FILTERING            ATTEMPTING           AWAITING              HOLDING
    #                   RESPONDING           TUNNELING            DONE
    "request data":    ("hold",              "hold",              "forward",            "forward",
                        "forward",           "forward",           "ignore"),
    "filter passes":   ("route > ATTEMPTING", "acquire",          "-",                  "send > RESPONDING",
                        "-",                 "-",                 "ignore"),
    "filter replies":  ("reply > DONE",      "reply > DONE",      "-",                  "reply > DONE",
                        "-",                 "-",                 "ignore"),
    "stream ready":    ("-",                 "send > AWAITING",   "-",                  "-",
                        "-",                 "-",                 "ignore"),
    "attempt fails":   ("-",                 "retry or 502 > DONE", "retry or 502 > DONE", "502 > HOLDING",
                        "reset > DONE",      "reset > DONE",      "ignore"),
    "response head":   ("-",                 "-",                 "filter > HOLDING, else send > RESPONDING", "-",
                        "-",                 "-",                 "ignore"),
    "response data":   ("-",                 "-",                 "-",                  "hold",
                        "send",              "send",              "ignore"),
    "client gone":     ("cancel > DONE",     "cancel > DONE",     "cancel > DONE",      "cancel > DONE",
                        "cancel > DONE",     "cancel > DONE",     "ignore"),
    "deadline":        ("504 > DONE",        "504 > DONE",         "504 > DONE",          "504 > HOLDING",
                        "reset > DONE",      "-",                  "-"),
    "timeout":         ("-",                 "504 > DONE",        "504 > DONE",         "504 > HOLDING",
                        "reset > DONE",      "end > DONE",        "-"),
}  # fmt: skip
