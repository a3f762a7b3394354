// Serves HTTPS and demands a certificate: server.js PORT CA CERTIFICATE KEY.
const fs = require("fs");
const https = require("https");

const [port, ca, cert, key] = process.argv.slice(2);
const files = { ca: fs.readFileSync(ca), cert: fs.readFileSync(cert), key: fs.readFileSync(key) };
const server = https.createServer({ ...files, requestCert: true, rejectUnauthorized: true }, (request, response) => {
  if (request.url === "/close") response.setHeader("Connection", "close");
  const state = request.socket;
  response.end(`HTTP/${request.httpVersion} ${state.getProtocol()} ${state.isSessionReused()} ${state.servername}`);
});
server.listen(Number(port), "127.0.0.1", () => console.log("READY"));
