// The official client with a server of a configuration file, usage: node mcp_config.mjs SERVER CALL..., each JSON:
// {url, headers} or {command, args, env}; {name, arguments}. Prints {tools, results} as JSON.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { getDefaultEnvironment, StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [server, ...calls] = process.argv.slice(2).map((a) => JSON.parse(a));
const transport = server.url
  ? new StreamableHTTPClientTransport(new URL(server.url), { requestInit: { headers: server.headers } })
  : new StdioClientTransport({ ...server, env: { ...getDefaultEnvironment(), ...server.env }, stderr: "inherit" });
const client = new Client({ name: "warren-test", version: "1" });
await client.connect(transport);
const tools = (await client.listTools()).tools.map((t) => t.name);
const results = [];
for (const call of calls) {
  results.push(await client.callTool(call));
}
console.log(JSON.stringify({ tools, results }));
await client.close();
