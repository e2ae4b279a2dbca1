// An MCP server of your own in front of a pool: tools that you write, and execute_code, which runs in the pool. Its
// callers need its token; the pool's key stays here. See README.md.
import { createServer } from "node:http";
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { createHash, timingSafeEqual } from "node:crypto";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { z } from "zod";

const need = (name) => process.env[name] ?? fail(`${name} is not set`);
const poolUrl = new URL(need("WARREN_MCP_URL"));
const poolKey = need("WARREN_MCP_KEY");
const token = need("SERVER_TOKEN");
const datasets = need("DATASETS");
const listen = process.env.LISTEN ?? "127.0.0.1:8090";
const colon = listen.lastIndexOf(":"); // of [::1]:8090 the last
const host = listen.slice(0, colon).replace(/^\[(.*)\]$/, "$1"), port = listen.slice(colon + 1);

function fail(text) {
  console.error(text);
  process.exit(1);
}

// A tool of the pool; its result, images and errors included, is handed on as it is.
async function inPool(tool, args, signal) {
  const client = new Client({ name: "mcp-standalone", version: "1" });
  await client.connect(new StreamableHTTPClientTransport(poolUrl, { requestInit: { headers: { "x-ms-apikey": poolKey } } }));
  try {
    return await client.callTool({ name: tool, arguments: args }, undefined, { signal, timeout: 300_000 });
  } finally {
    await client.close();
  }
}

const text = (value) => ({ content: [{ type: "text", text: JSON.stringify(value) }] });
const environment = z.string().min(4).max(128).describe("Your environment: any name of yours; variables and files stay in it");

function makeServer() {
  const server = new McpServer({ name: "datasets", version: "1" });

  server.registerTool("list_datasets", { description: "Names of the datasets", inputSchema: {} },
    async () => text(await readdir(datasets)));

  server.registerTool("load_dataset", {
    description: "Puts a dataset into an environment, as /mnt/data/NAME",
    inputSchema: { environment, name: z.string() },
  }, async ({ environment, name }, { signal }) => {
    const content = await readFile(join(datasets, basename(name)));
    return inPool("uploadFile", { environmentId: environment, path: basename(name), blob: content.toString("base64") }, signal);
  });

  server.registerTool("execute_code", {
    description: "Runs Python code in an environment: its output, the value of its last expression, its plots",
    inputSchema: { environment, code: z.string() },
  }, ({ environment, code }, { signal }) =>
    inPool("runPythonCodeInRemoteEnvironment", { environmentId: environment, pythonCode: code }, signal));

  return server;
}

const digest = (s) => createHash("sha256").update(s).digest();
const allowed = (request) => timingSafeEqual(digest(request.headers.authorization ?? ""), digest(`Bearer ${token}`));

const http = createServer(async (request, response) => {
  if (!allowed(request)) {
    response.writeHead(401).end();
    return;
  }
  try {
    const server = makeServer(); // no state between requests
    const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
    response.on("close", () => server.close());
    await server.connect(transport);
    await transport.handleRequest(request, response);
  } catch (error) {
    console.error(error);
    if (response.headersSent) {
      response.destroy();
    } else {
      response.writeHead(500).end();
    }
  }
});
http.listen(Number(port), host, () => console.log(`http://${listen.slice(0, colon)}:${http.address().port}/mcp`));
process.on("SIGTERM", () => process.exit(0));
