import json
import sys

values = {"a": [1, 2.5, "x"], "b": (True, None)}


def fail(n):
    if n == 0:
        raise ValueError("warm-up")
    return fail(n - 1)


try:
    fail(2)
except ValueError:
    import traceback

    traceback.format_exc()
print(json.dumps(values), sum(i * i for i in range(100)))
print("warm", file=sys.stderr)
[str(n) for n in range(3)]
