// The official MCP clients against a pool's /mcp, usage: node mcp_sdk.mjs URL KEY. The code is what an echo
// worker understands.
import assert from "node:assert/strict";
import * as v1 from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as Transport1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import * as v2 from "@modelcontextprotocol/client";

const url = new URL(process.argv[2]);
const headers = { "x-ms-apikey": process.argv[3] };
const PY = "runPythonCodeInRemoteEnvironment", SH = "runShellCommandInRemoteEnvironment";

const kinds = {
  "sdk v1": [v1.Client, Transport1, {}],
  "client v2, legacy": [v2.Client, v2.StreamableHTTPClientTransport, {}],
  "client v2, 2026-07-28": [v2.Client, v2.StreamableHTTPClientTransport,
    { versionNegotiation: { mode: { pin: "2026-07-28" } } }],
};

async function whole(client, call) {
  const tools = (await client.listTools()).tools.map((t) => t.name);
  assert.deepEqual(tools, ["launchShell", SH, PY]);
  const environmentId = (await call("launchShell", {})).structuredContent.environmentId;
  let r = await call(PY, { environmentId, pythonCode: "print('a')\n1+2" });
  assert.equal(r.structuredContent.stdout, "a\n");
  assert.equal(r.structuredContent.executionResult, 3);
  r = await call(SH, { environmentId, shellCommand: "echo hi" });
  assert.equal(r.structuredContent.stdout, "hi\n");
  r = await call(PY, { environmentId, pythonCode: "raise ValueError: no" });
  assert.ok(r.isError && r.content[0].text.includes("Traceback"));
  r = await call(PY, { environmentId, pythonCode: "png" });
  assert.equal(r.content[1].mimeType, "image/png");
  return environmentId;
}

async function progress(call, environmentId) {
  const seen = [];
  const code = "print('one')\nsleep 50\nprint('two')";
  const r = await call(PY, { environmentId, pythonCode: code }, { onprogress: (p) => seen.push(p.message) });
  assert.equal(seen.join(""), "one\ntwo\n");
  assert.equal(r.structuredContent.stdout, "one\ntwo\n");
}

async function aborted(call, environmentId) {
  const stop = new AbortController();
  const code = "print('up')\nsleep 600000";
  await assert.rejects(call(PY, { environmentId, pythonCode: code },
    { signal: stop.signal, onprogress: () => stop.abort("enough") }));
}

for (const [name, [Client, Transport, options]] of Object.entries(kinds)) {
  const client = new Client({ name: "warren-test", version: "1" }, options);
  await client.connect(new Transport(url, { requestInit: { headers } }));
  const old = Client === v1.Client;
  const call = (tool, args, opt) => old ? client.callTool({ name: tool, arguments: args }, undefined, opt)
    : client.callTool({ name: tool, arguments: args }, opt);
  const environmentId = await whole(client, call);
  await progress(call, environmentId);
  await aborted(call, environmentId);
  await client.close();
  console.log(`ok ${name}`);
}
