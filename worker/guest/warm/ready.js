const values = { a: [1, 2.5, 'x'], b: [true, null] };
try {
  JSON.parse('{');
} catch (error) {
  String(error.stack);
}
console.log(JSON.stringify(values));
console.error('warm');
require('util').inspect(values);
await new Promise((resolve) => setTimeout(resolve, 1));
