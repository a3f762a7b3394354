// Requests a URL over HTTPS twice on one agent: client.js URL CA VERSION [CERTIFICATE KEY].
const fs = require("fs");
const https = require("https");

const [url, ca, version, cert, key] = process.argv.slice(2);
const own = cert ? { cert: fs.readFileSync(cert), key: fs.readFileSync(key) } : {};
const agent = new https.Agent({ keepAlive: false, ca: fs.readFileSync(ca), minVersion: version, maxVersion: version, ...own });

function request() {
  return new Promise((resolve) => {
    const sent = https.get(url, { agent }, (response) => {
      const secured = response.socket;
      let body = "";
      response.on("data", (piece) => { body += piece; });
      response.on("end", () => {
        console.log("GOT", response.statusCode, secured.getProtocol(), secured.isSessionReused(), body);
        resolve();
      });
    });
    sent.on("error", (error) => { console.log("FAILED", error.code); resolve(); });
  });
}

request().then(request);
