// An agent of the OpenAI Agents SDK that runs Python in a pool, usage: node agent.mjs 'QUESTION'. Needs OPENAI_API_KEY,
// WARREN_MCP_URL, WARREN_MCP_KEY, and NODE_EXTRA_CA_CERTS for the cluster's certificate.
import { Agent, MCPServerStreamableHttp, run } from "@openai/agents";

const warren = new MCPServerStreamableHttp({
  name: "warren",
  url: process.env.WARREN_MCP_URL,
  requestInit: { headers: { "x-ms-apikey": process.env.WARREN_MCP_KEY } },
  cacheToolsList: true,
  timeout: 300_000, // code may run for 220 s; the SDK's default is 60
});
await warren.connect();
try {
  const agent = new Agent({
    name: "analyst",
    instructions: "Answer with the help of Python. Use one environment for all calls.",
    mcpServers: [warren],
  });
  console.log((await run(agent, process.argv[2])).finalOutput);
} finally {
  await warren.close();
}
