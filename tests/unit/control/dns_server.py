"""A small real DNS server on loopback, UDP and TCP on one port."""

from __future__ import annotations

import asyncio

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype


class DnsServer(asyncio.DatagramProtocol):
    """Answers from `records`: name -> lines such as `30 A 10.0.0.1` or `5 CNAME b.test.`; other names do not exist."""

    def __init__(self, **records: list[str]) -> None:
        self.records = records
        self.asked: list[str] = []
        self.is_silent = False
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> DnsServer:
        loop = asyncio.get_running_loop()
        while self._server is None:
            transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
            self.port = transport.get_extra_info("sockname")[1]
            try:
                self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            except OSError:
                transport.close()  # the port is in use for TCP: another one
            else:
                self._transport = transport
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._transport is not None
        assert self._server is not None
        self._transport.close()
        self._server.close()
        self._transport = self._server = None

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        reply = self._answer(data)
        if self.is_silent or self._transport is None:
            return
        wire = reply.to_wire(max_size=65535)
        if len(wire) > 1232:
            reply.answer = []
            reply.flags |= dns.flags.TC
            wire = reply.to_wire()
        self._transport.sendto(wire, address)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        wire = self._answer(await reader.readexactly(size)).to_wire(max_size=65535)
        writer.write(len(wire).to_bytes(2, "big") + wire)
        writer.close()

    def _answer(self, data: bytes) -> dns.message.Message:
        query = dns.message.from_wire(data)
        question = query.question[0]
        reply = dns.message.make_response(query)
        name = question.name.to_text(omit_final_dot=True)
        self.asked.append(name)
        wanted = "AAAA" if question.rdtype == 28 else "A"
        if name not in self.records:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        while name in self.records:
            following = ""
            for line in self.records[name]:
                ttl, kind, value = line.split()
                if kind in (wanted, "CNAME"):
                    found = reply.find_rrset(
                        reply.answer, dns.name.from_text(name), 1, dns.rdatatype.from_text(kind), create=True
                    )
                    found.add(dns.rdata.from_text("IN", kind, value), int(ttl))
                following = value.rstrip(".") if kind == "CNAME" else following
            name = following
        return reply
