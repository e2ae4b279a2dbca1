// Loopback proxy that adds a header field to every request, for clients that cannot send one. Host and Origin go on
// as they came. usage: node proxy.mjs TARGET_URL NAME VALUE [CA_FILE]; prints its own URL.
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";

const [target, name, value, caFile] = process.argv.slice(2);
const to = new URL(target);
const client = to.protocol === "https:" ? https : http;
const ca = caFile && readFileSync(caFile);

const server = http.createServer((request, response) => {
  const headers = { ...request.headers, [name]: value };
  const onward = client.request({ hostname: to.hostname, port: to.port, path: request.url, method: request.method,
    headers, ca, servername: "" }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    response.flushHeaders();
    answer.pipe(response);
  });
  onward.on("error", () => response.destroy());
  response.on("close", () => onward.destroy());
  request.pipe(onward);
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
