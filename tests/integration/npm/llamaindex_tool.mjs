// AzureDynamicSessionTool of @llamaindex/azure, as it is published, with the credentials it finds by itself.
// usage: node llamaindex_tool.mjs POOL_ENDPOINT PLOT FAULT    PLOT: code that shows an image, FAULT: code that raises ValueError
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AzureDynamicSessionTool } from "@llamaindex/azure";

const [poolManagementEndpoint, plot, fault] = process.argv.slice(2);
console.log = () => {}; // the tool prints every request and every answer
const folder = mkdtempSync(join(tmpdir(), "warren-llamaindex-"));
process.chdir(folder); // it saves images below the current folder
try {
  const tool = new AzureDynamicSessionTool({ poolManagementEndpoint });
  let answer = await tool.call({ code: "print('hi')\n1+2" });
  assert.deepEqual([answer.result, answer.stdout, answer.stderr], [3, "hi\n", ""]);
  answer = await tool.call({ code: "None" });
  assert.deepEqual([answer.result, answer.stderr], ["", ""]);
  answer = await tool.call({ code: fault });
  assert.deepEqual([answer.result, answer.status], ["", "Failure"]);
  assert.match(answer.stderr, /ValueError/);
  answer = await tool.call({ code: plot });
  assert.match(answer.result, /^tool-output.*\.png$/, JSON.stringify(answer));
  const image = answer.result.slice(0, answer.result.lastIndexOf("/")); // it names the file twice
  assert.equal(readFileSync(join(folder, image)).subarray(1, 4).toString(), "PNG");

  const file = await tool.uploadFile({ data: new Blob(["a,b\n1,2\n"]), remoteFilename: "data.csv" });
  assert.deepEqual([file.filename, file.size], ["data.csv", 8]);
  assert.deepEqual((await tool.listFiles()).map((f) => [f.filename, f.size]), [["data.csv", 8]]);
  const parts = [];
  for await (const part of await tool.downloadFile({ remoteFilename: "data.csv" })) parts.push(part);
  assert.equal(Buffer.concat(parts).toString(), "a,b\n1,2\n");

  const other = new AzureDynamicSessionTool({ poolManagementEndpoint });
  assert.deepEqual(await other.listFiles(), []); // a session of its own
  console.info("ok");
} finally {
  process.chdir("/");
  rmSync(folder, { recursive: true });
}
