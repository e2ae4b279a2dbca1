// Loopback proxy that adds a header field to every request, for clients that cannot send one. Host and Origin go on
// as they came. usage: node proxy.mjs TARGET_URL NAME VALUE [CA_FILE [METHOD]]; prints its own URL. Requests of the
// JSON-RPC method METHOD go on under a name that nobody knows.
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";

const [target, name, value, caFile, broken] = process.argv.slice(2);
const to = new URL(target);
const client = to.protocol === "https:" ? https : http;
const ca = caFile && readFileSync(caFile);

const server = http.createServer((request, response) => {
  const headers = { ...request.headers, [name]: value };
  if (broken) {
    delete headers["content-length"];
  }
  const onward = client.request({ hostname: to.hostname, port: to.port, path: request.url, method: request.method,
    headers, ca, servername: "" }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    response.flushHeaders();
    answer.pipe(response);
  });
  onward.on("error", () => response.destroy());
  response.on("close", () => onward.destroy());
  if (!broken) {
    request.pipe(onward);
    return;
  }
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => onward.end(Buffer.concat(parts).toString().replaceAll(`"method":"${broken}"`, '"method":"no such"')));
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
