// The Node.js interpreter of a session.
//
// Reads requests from descriptor 3 and writes messages to descriptor 4 (worker/guest/kernel_msg.h
// has the format); console output goes to descriptors 1 and 2 and is read from there by the agent.
// Cells are evaluated as V8's own console does it: `let` and `const` may be declared again and live
// on, `await` works at the top level, the value of the last expression is the result.
//
// OpenSSL's generator cannot be reseeded from here: this program must never run in a snapshot.
'use strict';

const fs = require('fs');
const inspector = require('inspector');
const { createRequire, builtinModules } = require('module');
const net = require('net');
const path = require('path');
const { Writable } = require('stream');
const { pathToFileURL } = require('url');
const util = require('util');
const vm = require('vm');

const REQUEST = 3;
const REPLY = 4;
const TEXT_BYTES_MAX = 1 << 20;
const TRACEBACK_BYTES_MAX = 256 << 10;
const IMPORT = '__warren_import';

const exitProcess = process.reallyExit.bind(process);

// --- Messages ----------------------------------------------------------------------------------

function send(verb, body, tail = '') {
  const data = Buffer.concat([Buffer.from(`${verb} ${body.length}${tail}\n`), body]);
  for (let at = 0; at < data.length; ) {
    at += fs.writeSync(REPLY, data, at);
  }
}

function bytes(text, max) {
  const data = Buffer.from(String(text).replaceAll('\0', '\\0'));
  return data.length <= max ? data : Buffer.concat([data.subarray(0, max - 40), Buffer.from(' ... (cut)')]);
}

function sendResult(value) {
  if (value === undefined) {
    return;
  }
  const text = bytes(util.inspect(value, { depth: 4, maxArrayLength: 1000 }), TEXT_BYTES_MAX);
  send('result', Buffer.concat([Buffer.from(`text/plain ${text.length}\n`), text]));
}

function sendError(name, value, traceback) {
  const zero = Buffer.from([0]);
  send('error', Buffer.concat([bytes(name, 200), zero, bytes(value, 8 << 10), zero,
    bytes(traceback, TRACEBACK_BYTES_MAX)]));
}

// --- Code --------------------------------------------------------------------------------------

const STATIC_IMPORT = new RegExp(
  '^import\\s*(?:([\\w$]+)\\s*,?\\s*)?(?:\\*\\s*as\\s+([\\w$]+)\\s*|\\{([^}]*)\\}\\s*)?from\\s*' +
    '([\'"])(.+?)\\4[ \\t]*;?|^import\\s*([\'"])(.+?)\\6[ \\t]*;?');

function importStatement(match) {
  const [, main, space, names] = match;
  const load = `await ${IMPORT}(${JSON.stringify(match[5] ?? match[7])});`;
  const parts = main ? [`default: ${main}`] : [];
  for (const name of (names ?? '').split(',')) {
    if (name.trim() !== '') {
      parts.push(name.trim().replace(/\s+as\s+/, ': '));
    }
  }
  const whole = space ? `const ${space} = ${load} ` : '';
  if (parts.length === 0) {
    return whole || load;
  }
  return `${whole}const { ${parts.join(', ')} } = ${space ?? load.slice(0, -1)};`;
}

// Where a string, template or comment that begins at i ends; i itself when none begins there.
function skip(code, i) {
  const two = code.substr(i, 2);
  if (two === '//' || two === '/*') {
    const end = code.indexOf(two === '//' ? '\n' : '*/', i + 2);
    return end < 0 ? code.length : end + (two === '//' ? 0 : 2);
  }
  if (!'\'"`'.includes(code[i])) {
    return i;
  }
  let k = i + 1;
  while (k < code.length && code[k] !== code[i]) {
    k += code[k] === '\\' ? 2 : 1;
  }
  return k + 1;
}

// V8's console knows neither import statements nor import(): both become calls of ours.
function rewriteImports(code) {
  if (!/\bimport\b/.test(code)) {
    return code;
  }
  let out = '';
  let i = 0;
  while (i < code.length) {
    const end = skip(code, i);
    if (end > i) {
      out += code.slice(i, end);
      i = end;
      continue;
    }
    const rest = code.startsWith('import', i) && !/[\w$.]/.test(out.slice(-1)) ? code.slice(i) : '';
    const call = /^import\s*\(/.exec(rest);
    const statement = call || rest === '' ? null : STATIC_IMPORT.exec(rest);
    if (call) {
      out += `${IMPORT}(`;
      i += call[0].length;
    } else if (statement) {
      out += importStatement(statement);
      i += statement[0].length;
    } else {
      out += code[i++];
    }
  }
  return out;
}

function requireHere() {
  return createRequire(path.join(process.cwd(), 'cell.js'));
}

function importHere(name) {
  name = String(name);
  if (name.startsWith('node:') || builtinModules.includes(name)) {
    return import(name);
  }
  return import(pathToFileURL(requireHere().resolve(name)).href);
}

// --- Evaluation --------------------------------------------------------------------------------

class Exit extends Error {
  constructor(code) {
    super(`process.exit(${code ?? ''})`);
    this.exitCode = code ?? process.exitCode ?? 0;
  }
}

const session = new inspector.Session();
session.connect();
let cell = 0;
let fail = null; // ends the cell that runs, from outside of it

function hide(name, value) {
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true, enumerable: false });
}

function post(method, params) {
  return new Promise((resolve, reject) =>
    session.post(method, params, (error, answer) => (error ? reject(error) : resolve(answer))));
}

// The object itself behind what the inspector says about it.
async function valueOf(remote) {
  if (remote.type === 'undefined' || remote.subtype === 'null') {
    return remote.type === 'undefined' ? undefined : null;
  }
  if (remote.objectId === undefined) {
    if (remote.unserializableValue !== undefined) {
      return vm.runInThisContext(remote.unserializableValue); // NaN, -0, Infinity, 10n
    }
    return remote.value;
  }
  let value;
  hide('__warren_take', (v) => { value = v; });
  await post('Runtime.callFunctionOn', { objectId: remote.objectId,
    functionDeclaration: 'function () { "use strict"; globalThis.__warren_take(this); }' });
  delete globalThis.__warren_take;
  session.post('Runtime.releaseObject', { objectId: remote.objectId }, () => {});
  return value;
}

// The synchronous part runs inside vm, whose watchdog turns SIGINT into an exception even in an
// endless loop; what runs after an await can only be left behind.
function evaluate(code) {
  let resolve;
  let reject;
  const promise = new Promise((a, b) => { [resolve, reject] = [a, b]; });
  fail = reject;
  hide('__warren_run', () => {
    delete globalThis.__warren_run;
    session.post('Runtime.evaluate', { expression: code, replMode: true, awaitPromise: true },
      (error, answer) => (error ? reject(error) : resolve(answer)));
  });
  try {
    vm.runInThisContext('__warren_run()', { breakOnSigint: true, filename: __filename });
  } catch (error) {
    reject(error);
  }
  return promise;
}

async function runCell(code, hidden) {
  if (hidden) {
    code = `await (async () => {${code}\n})()`;
  }
  const name = hidden ? 'warm-up' : `cell-${++cell}`;
  const answer = await evaluate(`${rewriteImports(code)}\n//# sourceURL=${name}`);
  const value = await valueOf(answer.result);
  const wrong = answer.exceptionDetails;
  if (wrong) {
    if (value instanceof SyntaxError && !value.stack.includes(`${name}:`)) {
      value.stack += `\n    at ${name}:${wrong.lineNumber + 1}:${wrong.columnNumber + 1}`;
    }
    throw value;
  }
  return hidden ? undefined : value;
}

function ours(line) {
  return line.includes(__filename) || /\(?node:(inspector|vm|internal)/.test(line);
}

function report(error) {
  if (error instanceof Exit) {
    if (error.exitCode === 0) {
      return ['ok', 0];
    }
    sendError('Exit', error.message, `${error.message}\n`);
    return ['error', error.exitCode & 255 || 1];
  }
  if (error?.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED') {
    sendError('Interrupted', 'the execution was interrupted', 'Interrupted: the execution was interrupted\n');
    return ['interrupted', 130];
  }
  if (!util.types.isNativeError(error)) {
    const text = util.inspect(error);
    sendError('Uncaught', text, `Uncaught ${text}\n`);
    return ['error', 1];
  }
  let stack = `${error.name}: ${error.message}`;
  try {
    stack = util.inspect(error);
  } catch {
    // a getter of the user's failed
  }
  const text = stack.split('\n').filter((line) => !ours(line)).join('\n');
  sendError(error.name, error.message, `${text}\n`);
  return ['error', 1];
}

async function execute(code, argument) {
  const [flag, serial] = argument.split('.');
  const hidden = flag === 'hidden';
  let status = ['ok', 0];
  try {
    const value = await runCell(code, hidden);
    fail = null;
    sendResult(value);
  } catch (error) {
    fail = null;
    try {
      status = report(error);
    } catch (again) {
      sendError('Error', 'the error cannot be shown', `${util.inspect(again)}\n`);
      status = ['error', 1];
    }
  }
  send('done', Buffer.alloc(0), ` ${status[0]} ${status[1]} ${serial}`);
}

// --- The process -------------------------------------------------------------------------------

function interrupted() {
  const error = new Error('interrupted');
  error.code = 'ERR_SCRIPT_EXECUTION_INTERRUPTED';
  return error;
}

process.on('SIGINT', () => fail?.(interrupted()));
// What goes wrong in a timer or a promise that nobody waits for is told, and ends nothing.
process.on('uncaughtException', (error) => {
  if (error instanceof Exit && fail) {
    fail(error);
  } else if (!(error instanceof Exit)) {
    process.stderr.write(`Uncaught ${util.inspect(error)}\n`);
  }
});
process.on('unhandledRejection', (error) => {
  if (!(error instanceof Exit)) {
    process.stderr.write(`Unhandled rejection ${util.inspect(error)}\n`);
  }
});
process.exit = (code) => {
  throw new Exit(code);
};

hide('require', (name) => requireHere()(name));
Object.assign(globalThis.require, { resolve: (name, options) => requireHere().resolve(name, options),
  cache: require.cache });
hide('module', { exports: {} });
hide('exports', globalThis.module.exports);
hide(IMPORT, importHere);
for (const name of builtinModules) {
  // As in Node's own console; a variable of the user takes the place.
  if (!name.includes('/') && !name.startsWith('_') && !(name in globalThis)) {
    Object.defineProperty(globalThis, name, { configurable: true, enumerable: false,
      get: () => require(name), set: (value) => hide(name, value) });
  }
}

// Node would write to a pipe later, when it is full, and make it non-blocking for our children too.
for (const [name, fd] of [['stdout', 1], ['stderr', 2]]) {
  const stream = new Writable({
    decodeStrings: true,
    write(data, encoding, done) {
      try {
        for (let at = 0; at < data.length; ) {
          at += fs.writeSync(fd, data, at);
        }
        done();
      } catch (error) {
        done(error);
      }
    },
  });
  stream.fd = fd;
  stream.on('error', () => {}); // the user closed the descriptor
  Object.defineProperty(process, name, { value: stream, configurable: true, enumerable: true });
}

let input = Buffer.alloc(0);

function handle(verb, argument, body) {
  if (verb === 'exec') {
    execute(body.toString(), argument);
  } else if (verb === 'seed') {
    send('seeded', Buffer.alloc(0)); // started after a seed: nothing here is a copy
  }
}

function parse() {
  for (;;) {
    const lf = input.indexOf(10);
    if (lf < 0) {
      return;
    }
    const [verb, size, argument] = input.toString('latin1', 0, lf).split(' ');
    const end = lf + 1 + Number(size);
    if (input.length < end) {
      return;
    }
    const body = input.subarray(lf + 1, end);
    input = input.subarray(end);
    handle(verb, argument, body);
  }
}

const requests = new net.Socket({ fd: REQUEST, readable: true, writable: false });
requests.on('data', (data) => {
  input = input.length === 0 ? data : Buffer.concat([input, data]);
  parse();
});
requests.on('end', () => exitProcess(0));
send('ready', Buffer.alloc(0));
