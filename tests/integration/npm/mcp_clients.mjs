// MCP clients of agent frameworks, as they are, against a pool's /mcp, usage: node mcp_clients.mjs URL KEY. The code is
// what an echo worker understands.
import assert from "node:assert/strict";
import { createMCPClient } from "@ai-sdk/mcp";
import { experimental_createMCPClient } from "@ai-sdk/mcp-1";
import { MultiServerMCPClient } from "@langchain/mcp-adapters";
import { MCPServerStreamableHttp } from "@openai/agents";

const [url, key] = process.argv.slice(2);
const headers = { "x-ms-apikey": key };
const PY = "runPythonCodeInRemoteEnvironment", SH = "runShellCommandInRemoteEnvironment";
const TOOLS = ["launchShell", SH, PY];

// Each makes { names, call(tool, args) -> text of the result, close() }.
const frameworks = {
  "@openai/agents": async () => {
    const server = new MCPServerStreamableHttp({ name: "warren", url, requestInit: { headers } });
    await server.connect();
    return {
      names: (await server.listTools()).map((t) => t.name),
      call: async (tool, args) => (await server.callTool(tool, args))[0].text,
      close: () => server.close(),
    };
  },
  "@ai-sdk/mcp": () => aiSdk(createMCPClient),
  "@ai-sdk/mcp 1": () => aiSdk(experimental_createMCPClient),
  "@langchain/mcp-adapters": async () => {
    const client = new MultiServerMCPClient({ mcpServers: { warren: { transport: "http", url, headers } } });
    const tools = await client.getTools();
    return {
      names: tools.map((t) => t.name),
      call: async (tool, args) => {
        try {
          return (await tools.find((t) => t.name === tool).invoke(args)).text;
        } catch (e) { // how it tells the model of a tool's error
          assert.equal(e.name, "ToolException");
          return e.message;
        }
      },
      close: () => client.close(),
    };
  },
};

async function aiSdk(create) {
  const client = await create({ transport: { type: "http", url, headers } });
  const tools = await client.tools();
  return {
    names: Object.keys(tools),
    call: async (tool, args) => (await tools[tool].execute(args, { toolCallId: "1", messages: [] })).content[0].text,
    close: () => client.close(),
  };
}

for (const [name, make] of Object.entries(frameworks)) {
  const { names, call, close } = await make();
  assert.deepEqual(names, TOOLS);
  const { environmentId } = JSON.parse(await call("launchShell", {}));
  const r = JSON.parse(await call(PY, { environmentId, pythonCode: "print('a')\n1+2" }));
  assert.equal(r.stdout, "a\n");
  assert.equal(r.executionResult, 3);
  assert.equal(JSON.parse(await call(SH, { environmentId, shellCommand: "echo hi" })).stdout, "hi\n");
  assert.match(await call(PY, { environmentId, pythonCode: "raise ValueError: no" }), /Traceback/);
  await close();
  console.log(`ok ${name}`);
}
