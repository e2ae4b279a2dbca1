// npm's ws at /terminal of a shell pool with real microVMs.
// usage: node terminal.mjs POOL_URL TOKEN PID...    PIDs: processes whose memory stays bounded
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import WebSocket from "ws";

const [pool, token, ...pids] = process.argv.slice(2);
const authorization = `Bearer ${token}`;
const address = (id, query = "") => `${pool.replace("https:", "wss:")}/terminal?identifier=${id}${query}`;
const query = (id) => `identifier=${id}&api-version=2025-10-02-preview`;

/** A terminal with what its screen got, and a way to wait for more. */
class Terminal {
  constructor(id, more = "") {
    this.screen = "";
    this.bytes = 0;
    this.texts = [];
    this.ws = new WebSocket(address(id, more), { headers: { authorization } });
    this.closed = new Promise((resolve) => this.ws.on("close", (code, reason) => resolve([code, reason.toString()])));
    this.ws.on("message", (data, binary) => {
      if (!binary) return this.texts.push(JSON.parse(data));
      this.bytes += data.length;
      this.screen = (this.screen + data.toString("latin1")).slice(-100000);
      this.woken?.();
    });
  }

  open() {
    return new Promise((resolve, reject) => this.ws.on("open", () => resolve(this)).on("error", reject));
  }

  type(text) {
    this.screen = "";
    this.ws.send(Buffer.from(text));
  }

  async until(test) {
    const deadline = setTimeout(() => { throw new Error(`not seen: ${test}, ${this.bytes} bytes; screen: ${this.screen.slice(-500)}`); }, 60000);
    while (!(test instanceof RegExp ? test.test(this.screen) : test())) await new Promise((r) => { this.woken = r; });
    clearTimeout(deadline);
  }

  async says(text, test) {
    this.type(text);
    await this.until(test);
  }
}

async function run(id, shellCommand) {
  const answer = await fetch(`${pool}/executions?${query(id)}`, { method: "POST",
    headers: { authorization, "content-type": "application/json" }, body: JSON.stringify({ shellCommand }) });
  return (await answer.json()).result.stdout;
}

async function until(what, test) {
  for (const end = Date.now() + 60000; Date.now() < end;) if (await test()) return;
  throw new Error(`never: ${what}`);
}

const refused = (ws) => new Promise((resolve, reject) => {
  ws.on("unexpected-response", (_, response) => { resolve(response.statusCode); ws.terminate(); });
  ws.on("open", () => reject(new Error("it opened")));
  ws.on("error", () => {});
});
const rss = () => pids.map((pid) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]));

const tests = {
  async "a shell on a terminal of the window's size"() {
    const t = await new Terminal("term-1", "&columns=100&rows=30").open();
    await t.says("stty size; tty; id -un\r", /30 100\r\n\/dev\/pts\/\d+\r\nsession\r\n/);
    t.ws.send(JSON.stringify({ columns: 120, rows: 50 }));
    await t.says("stty size\r", /50 120\r\n/);
    // one foreground program: in a loop of short ones ^C may fall between two of them, where bash too loses it
    await t.says(`python3 -c 'import os, signal, time
signal.signal(signal.SIGWINCH, lambda *_: os.write(1, b"chan" + b"ged"))
os.write(1, b"rea" + b"dy")
while True: time.sleep(100)'\r`.replaceAll("\n", "\r"), /ready/);
    t.ws.send(JSON.stringify({ columns: 80, rows: 25 }));
    await t.until(/changed/);
    await t.says("\x03", /\$ $/);
    await t.says("echo st''opped $?; cd /tmp; python3 -c 'import os; print(os.isatty(0), os.getcwd())'\r",
      /stopped 130\r\n[^]*True \/tmp\r\n/);
    await t.says("echo grüße >/mnt/data/hello; echo do''ne\r", /done\r\n/);
    assert.equal(await run("term-1", "cat /mnt/data/hello"), "grüße\n"); // one session with the REST API
    t.type("exit 7\r");
    assert.deepEqual(await t.closed, [1000, "the shell has ended"]);
    assert.deepEqual(t.texts, [{ exitCode: 7 }]);
  },

  async "a closed socket ends the shell and what it started"() {
    const t = await new Terminal("term-1").open();
    await t.says("sleep 98765 & setsid sleep 98765 & sleep 98765 & echo sta''rted\r", /started\r\n/);
    assert.equal(await run("term-1", "pgrep -cf '^sleep 98765'"), "3\n");
    t.ws.terminate();
    await until("they end", async () => (await run("term-1", "pgrep -cf '^sleep 98765'")) === "0\n");
  },

  async "a client that does not read stops the program, and no memory grows"() {
    const t = await new Terminal("term-1").open();
    await t.says("stty -echo -opost\r", /\$ /);
    const before = rss();
    t.ws.pause();
    t.type("for i in $(seq 14); do head -c 1000000 /dev/zero | tr '\\0' x; echo $i >/mnt/data/at; done; echo fi''nished\r");
    let last = -1, same = 0;
    await until("it stops", async () => {
      const at = Number(await run("term-1", "cat /mnt/data/at || echo 0"));
      same = at === last ? same + 1 : 0;
      last = at;
      return same === 5;
    });
    console.log(`  stopped after ${last} MB`);
    assert.ok(last < 12, `${last} MB were taken from a client that reads nothing`);
    rss().forEach((now, i) => assert.ok(now - before[i] < 16384, `memory grew by ${now - before[i]} KiB`));
    t.bytes = 0;
    t.ws.resume();
    await t.until(/finished/);
    assert.ok(t.bytes >= 14e6, `${t.bytes}`);
    rss().forEach((now, i) => assert.ok(now - before[i] < 16384, `memory grew by ${now - before[i]} KiB`));
    t.ws.close();
    await t.closed;
  },

  async "much that is pasted waits for the program"() {
    const t = await new Terminal("term-1").open();
    const data = Buffer.from(Array.from({ length: 3000000 }, (_, i) => 97 + (i * i) % 26));
    await t.says("stty -icanon -echo; echo re''ady; sleep 1; head -c 3000000 >/mnt/data/pasted; stty sane; echo do''ne\r", /ready\r\n/);
    t.screen = "";
    for (let at = 0; at < data.length; at += 100000) t.ws.send(data.subarray(at, at + 100000));
    await t.until(/done\r\n/);
    const got = await fetch(`${pool}/files/pasted/content?${query("term-1")}`, { headers: { authorization } });
    assert.ok(Buffer.from(await got.arrayBuffer()).equals(data));
    t.ws.close(1000, "bye");
    assert.equal((await t.closed)[0], 1000);
  },

  async "what is refused"() {
    assert.equal(await refused(new WebSocket(address("term-1"))), 401);
    assert.equal(await refused(new WebSocket(address("abc"), { headers: { authorization } })), 400);
    const plain = await fetch(`${pool}/terminal?${query("term-1")}`, { headers: { authorization } });
    assert.equal(plain.status, 426);
    assert.equal((await plain.json()).error.code, "UpgradeRequired");
    const t = await new Terminal("term-1").open();
    t.ws.send("not json");
    assert.equal((await t.closed)[0], 1007);
    const all = [];
    for (let i = 0; i < 8; i++) all.push(await new Terminal("term-2").open());
    assert.equal(await refused(new WebSocket(address("term-2"), { headers: { authorization } })), 429);
    for (const each of all) each.ws.close();
    for (const each of all) await each.closed;
  },

  async "the end of the session ends the terminal"() {
    let t;
    await until("one of the eight is free", async () => (t = await new Terminal("term-2").open().catch(() => null)) !== null);
    await t.says("echo he''re\r", /here/);
    assert.equal((await fetch(`${pool}/session?${query("term-2")}`, { method: "DELETE", headers: { authorization } })).status, 204);
    assert.deepEqual(await t.closed, [1001, "the session has ended"]);
  },
};

for (const [name, test] of Object.entries(tests)) {
  const begin = Date.now();
  await test();
  console.log(`ok ${name} ${((Date.now() - begin) / 1000).toFixed(1)} s`);
}
