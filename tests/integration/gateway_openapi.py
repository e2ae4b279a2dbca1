#!/usr/bin/env python3
"""Every operation of the public service's OpenAPI files, each api-version: the request that a test sends and the answer
that it gets are both what the file says. What is not so stands in DEVIATIONS, and is checked to be so still.

usage: gateway_openapi.py BIN_DIR    before an echo worker; test_clients.py --real has it before microVMs
77 when there is no python3-jsonschema."""
import copy
import datetime
import json
import pathlib
import re
import sys
import urllib.parse
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from gateway_system import System, conclude, eq, form, run_tests  # noqa: E402

try:
    import jsonschema
except ImportError:
    jsonschema = None

SPECS = pathlib.Path(__file__).resolve().parent / "openapi"
BASE = "/subscriptions/9f8e/resourceGroups/my-rg/sessionPools/python"
DRAFT = "a draft that no client speaks: of it, /execute is an alias of /executions"

LATER = (["status 202 is not declared"], "the file declares 200 only, its own examples answer 202 while the code runs")


def missing(*names):
    return [f"'{n}' is a required property" for n in names]


def draft(status, *more):
    """The draft gives the request back with the result, in names of its own."""
    return sorted([f"'{status}' is not one of ['Success', 'Failure']", *more,
                   *missing("code", "codeInputType", "executionTimeInMilliseconds", "multiArrayStatus", "networkStatus",
                            "stderr", "stdout", "timeoutInSeconds")]), DRAFT


# (file, operation): (all that the check must find, why it is so)
DEVIATIONS = {
    ("2025-02-02-preview", "CodeExecution_Execute asynchronous"): LATER,
    ("2025-10-02-preview", "CodeExecution_Execute asynchronous"): LATER,
    ("2025-10-02-preview.7216759c", "CodeExecution_Execute asynchronous"): LATER,
    ("2024-09-01", "ExecuteCode"): draft("Succeeded"),
    ("2024-09-01", "ExecuteCode failing"): draft("Failed"),
    ("2024-09-01", "ExecuteCode asynchronous"): draft("Running", *missing("result"), "no field location"),
    ("2024-09-01", "GetCodeExecutionResult"): draft("Succeeded"),
    ("2024-09-01", "SessionResourceFiles_ListFilesMetadata"): (missing("createdAt", "fileName"), DRAFT),
    ("2024-09-01", "SessionResourceFiles_GetFileMetadata"): (missing("createdAt", "fileName"), DRAFT),
    ("2024-09-01", "SessionResourceFiles_UploadFile"): (["status 404, not 200"], DRAFT),
    ("2024-09-01", "SessionResourceFiles_DownloadFile"): (["status 405, not 200"], DRAFT),
}


# ---- the checker ----

def is_date_time(text):
    return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", text) is not None and \
        datetime.datetime.fromisoformat(re.sub(r"\.\d+", "", text).replace("Z", "+00:00")) is not None


def format_checker():
    formats = jsonschema.FormatChecker(formats=())
    formats.checks("date-time", ValueError)(lambda v: not isinstance(v, str) or is_date_time(v))
    formats.checks("uri")(lambda v: not isinstance(v, str) or urllib.parse.urlsplit(v).scheme != "")
    formats.checks("int32")(lambda v: not isinstance(v, int) or -2**31 <= v < 2**31)
    formats.checks("int64")(lambda v: not isinstance(v, int) or -2**63 <= v < 2**63)
    return formats


class Spec:
    """One OpenAPI 2.0 file."""

    def __init__(self, path):
        self.name, self.doc = path.stem, json.loads(path.read_text())
        self.version = self.doc["info"]["version"]
        self.operations = {o["operationId"]: (method.upper(), address, o)
                           for address, methods in self.doc["paths"].items() for method, o in methods.items()}

    def resolve(self, part):
        while "$ref" in part:
            place = self.doc
            for step in part["$ref"].removeprefix("#/").split("/"):
                place = place[step]
            part = place
        return part

    def errors(self, schema, value):
        whole = {"allOf": [schema], "definitions": self.doc["definitions"]}
        return [e.message for e in jsonschema.Draft4Validator(whole, format_checker=format_checker()).iter_errors(value)]

    def validate(self, schema, value):
        eq(self.errors(schema, value), [])

    def check_request(self, operation, query, fields, body):
        """body: of JSON; None for others."""
        known = {"query": query, "header": {k.lower(): v for k, v in fields.items()}}
        for p in map(self.resolve, self.operations[operation][2]["parameters"]):
            where = known.get(p["in"])
            if p["in"] == "body":
                self.validate(p["schema"], body)
            elif where is not None and p["name"] in where:
                facts = {k: p[k] for k in ("type", "minLength", "maxLength", "pattern") if k in p}
                text = where[p["name"]]
                self.validate(facts, {"boolean": lambda: text == "true", "integer": lambda: int(text)}.get(
                    p["type"], lambda: text)())
            elif where is not None and p.get("required"):
                raise AssertionError(f"the parameter {p['name']} is missing")
        unknown = set(query) - {p["name"] for p in map(self.resolve, self.operations[operation][2]["parameters"])}
        assert not unknown, unknown

    def check_answer(self, operation, status, fields, body):
        """All that is wrong with it."""
        responses, wrong = self.operations[operation][2]["responses"], []
        declared = responses.get(str(status))
        if declared is None and status < 400:
            wrong.append(f"status {status} is not declared")
            declared = responses.get("200")  # its fields and body are looked at all the same
        declared = declared or responses["default"]
        for name in declared.get("headers", {}):  # the code of an error may be missing where there is none
            if name.lower() not in fields and (name != "x-ms-error-code" or status >= 400):
                wrong.append(f"no field {name}")
        schema = declared.get("schema")
        if schema is None:
            wrong += ["a body"] if body != b"" else []
        elif schema != {"type": "file"}:
            if not fields.get("content-type", "").startswith("application/json"):
                return [*wrong, "no JSON"]
            value = json.loads(body)
            wrong += self.errors(schema, value)
            if status >= 400 and not wrong and fields["x-ms-error-code"] != value["error"]["code"]:
                wrong.append("another code in the fields than in the body")
        return sorted(wrong)


# ---- the session that is checked ----

class Walk:
    """Each operation of one file, in an order that makes sense. send(method, target, fields, body) gives status,
    fields in lower case, and body."""

    def __init__(self, spec, send):
        self.spec, self.send, self.seen, self.records = spec, send, {}, []
        self.id = f"openapi-{uuid.uuid4().hex}"

    def call(self, operation, status, kind="", body=None, fields=None, raw=None, **values):
        """The answer's fields and body. kind tells calls of one operation apart; values: of path and query."""
        method, address, o = self.spec.operations[operation]
        names = [p["name"] for p in map(self.spec.resolve, o["parameters"]) if p["in"] == "query"]
        query = {"api-version": self.spec.version, **({"identifier": self.id} if "identifier" in names else {})}
        query.update({k: v for k, v in values.items() if k in names})
        path = re.sub(r"{(\w+)}", lambda m: urllib.parse.quote(values[m[1]], safe=""), address)
        fields = dict(fields or {})
        data = raw
        if body is not None:
            data, fields["content-type"] = json.dumps(body).encode(), "application/json"
        self.spec.check_request(operation, query, fields, body)
        got = self.send(method, f"{BASE}{path}?{urllib.parse.urlencode(query)}", fields, data)
        self.seen.setdefault(operation, set()).add(got[0])
        self.judge(f"{operation} {kind}".strip(), operation, status, got)
        return got[1], got[2]

    def judge(self, what, operation, status, got):
        wrong = self.spec.check_answer(operation, *got)
        if got[0] != status:
            wrong.insert(0, f"status {got[0]}, not {status}")
        expected = DEVIATIONS.get((self.spec.name, what), ([], ""))[0]
        assert wrong == expected, f"{what} of {self.spec.name}: {wrong} and not {expected}; {got}"
        if not wrong:
            self.records.append((operation, got))

    def executions(self, execute, get, executed):
        code = {"codeInputType": "Inline", "executionType": "Synchronous", "code": "print('a')\n1+2", "timeoutInSeconds": 60}
        if self.spec.name == "2024-09-01":
            code.update(networkStatus="EgressDisabled", multiArrayStatus="MultiArrayEnabled")
        if self.spec.name.endswith("7216759c"):
            code.update(outputStreamsMaxLength=4096, useEmptyKernel=False)
        names = {p.get("name") for p in map(self.spec.resolve, self.spec.operations[execute][2]["parameters"])}
        given = {"operation-id": "op-1"} if "operation-id" in names else {}
        fields, _ = self.call(execute, executed, body=code, fields=given)
        known = fields["operation-id"]
        for name, value in given.items():
            eq(fields[name], value)
        self.call(execute, executed, "failing", body={**code, "code": "raise ValueError('no')"})
        self.call(execute, 202, "asynchronous", body={**code, "executionType": "Asynchronous"})
        self.call(get, 200, executionId=known)
        self.call(get, 404, "unknown", executionId="nobody")
        if execute == "CodeExecution_Execute":
            got = self.send("POST", f"{BASE}/executions?identifier={self.id}&api-version={self.spec.version}",
                            {"content-type": "application/json"}, b'{"executionType": "Synchronous"}')
            eq(got[0], 400)
            self.judge("CodeExecution_Execute without code", execute, 400, got)

    def files(self):
        data, kind = form("file", "a b.txt", b"hello")
        upload = {"raw": data, "fields": {"content-type": kind}}
        self.call("SessionResourceFiles_Upload", 200, **upload)
        self.call("SessionResourceFiles_Upload", 200, "into a folder", path="folder", **upload)
        self.call("SessionResourceFiles_List", 200, path="", recursive="true")
        fields, body = self.call("SessionResourceFiles_GetContent", 200, name="a b.txt")
        eq((body, fields["content-length"]), (b"hello", "5"))
        self.call("SessionResourceFiles_GetContent", 404, "unknown", name="none")
        self.call("SessionResourceFiles_Get", 200, name="a b.txt")
        self.call("SessionResourceFiles_Get", 404, "unknown", name="none")
        self.call("SessionResourceFiles_Delete", 204, name="a b.txt")
        self.call("SessionResourceFiles_Delete", 404, "unknown", name="none")

    def draft_files(self):
        data, kind = form("file", "a.txt", b"hello")
        got = self.send("POST", f"{BASE}/files?identifier={self.id}", {"content-type": kind}, data)
        eq(got[0], 200)
        self.call("SessionResourceFiles_UploadFile", 200, path="/mnt/data", raw=data, fields={"content-type": kind})
        self.call("SessionResourceFiles_ListFilesMetadata", 200)
        self.call("SessionResourceFiles_GetFileMetadata", 200, fileName="a.txt")
        self.call("SessionResourceFiles_DownloadFile", 200, fileName="a.txt")
        self.call("SessionResourceFiles_DeleteFile", 204, fileName="a.txt")

    def sessions(self):
        self.call("SessionManagement_Get", 200)
        _, body = self.call("ListSessions_Get", 200, skip="0")
        assert self.id in [x["identifier"] for x in json.loads(body)["sessions"]]
        self.call("SessionPoolMetadata_Get", 200)
        self.call("SessionManagement_Delete", 204)
        self.call("SessionManagement_Get", 404, "gone")

    def run(self):
        if self.spec.name == "2024-09-01":
            self.executions("ExecuteCode", "GetCodeExecutionResult", 200)
            self.draft_files()
        else:
            self.executions("CodeExecution_Execute", "CodeExecution_Get", 202 if self.spec.version[:7] == "2024-10" else 200)
            self.files()
        if "SessionManagement_Get" in self.spec.operations:
            self.sessions()
        eq(set(self.seen), set(self.spec.operations))


def refused(spec, operation, status, fields, body):
    return spec.check_answer(operation, status, fields, body) != []


def check_that_the_check_can_fail(walk):
    """Real answers, each with one thing changed that the file does not allow."""
    changed = 0
    for operation, (status, fields, body) in walk.records:
        assert refused(walk.spec, operation, 299, fields, body), (operation, "another status")
        if not fields.get("content-type", "").startswith("application/json") or body == b"":
            continue
        schema = walk.spec.resolve(walk.spec.operations[operation][2]["responses"].get(
            str(status), walk.spec.operations[operation][2]["responses"]["default"])["schema"])
        for name in schema.get("required", []):
            for wrong in (None, ["x"], 17):
                value = copy.deepcopy(json.loads(body))
                if wrong is None:
                    del value[name]
                elif walk.spec.resolve(schema["properties"][name]).get("type") == "array" and wrong != 17:
                    value[name] = [17]
                else:
                    value[name] = wrong
                assert refused(walk.spec, operation, status, fields, json.dumps(value).encode()), (operation, value)
                changed += 1
    assert changed > 20 or walk.spec.name == "2024-09-01", changed
    for time in ("2025-01-01 00:00:00", "2025-13-01T00:00:00Z", "yesterday", "2025-01-01T00:00:00"):
        try:
            walk.spec.validate({"type": "string", "format": "date-time"}, time)
        except AssertionError:
            continue
        raise AssertionError(time)


def check_all(send):
    """The whole of it; send as Walk has it."""
    done = set()
    for path in sorted(SPECS.glob("*.json")):
        walk = Walk(Spec(path), send)
        walk.run()
        check_that_the_check_can_fail(walk)
        print(f"  {walk.spec.name}: {len(walk.seen)} operations, {len(walk.records)} answers as they should be")
        done.add(walk.spec.name)
    assert {name for name, _ in DEVIATIONS} <= done and len(done) == 5, done


def test_answers_are_what_the_specifications_say(s):
    def send(method, target, fields, body):
        a = s.request(method, target, body, fields)
        return a.status, a.headers, a.body
    check_all(send)


def main():
    if jsonschema is None:
        print("skipped: python3-jsonschema is not installed (deploy/install-deps test)")
        return 77
    s = System(sys.argv[1])
    return conclude(run_tests(globals(), s=s), s)


if __name__ == "__main__":
    sys.exit(main())
