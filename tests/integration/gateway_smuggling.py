#!/usr/bin/env python3
"""Framing battery: requests that two HTTP parsers could read differently. Every bad one must be refused
and end the connection, so that nothing behind it is taken for another request; the good ones must work."""
import socket
import subprocess
import sys

H = b"Host: a\r\n"
NEXT = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"  # what an attacker hides behind a request


def post(fields, body, line=b"POST /echo HTTP/1.1"):
    return line + b"\r\n" + H + fields + b"\r\n" + body


GOOD = {
    "get": (b"GET /echo HTTP/1.1\r\n" + H + b"\r\n", b""),
    "get in 1.0 without Host": (b"GET /echo HTTP/1.0\r\n\r\n", b""),
    "post with length": (post(b"Content-Length: 7\r\n", b"1234567"), b"1234567"),
    "post chunked": (post(b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"), b"abcdefg"),
    "chunk extension": (post(b"Transfer-Encoding: chunked\r\n", b"3;a=b\r\nabc\r\n0\r\n\r\n"), b"abc"),
    "trailer": (post(b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\nX: y\r\n\r\n"), b"abc"),
    "TE in capitals": (post(b"TRANSFER-ENCODING: Chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n"), b"abc"),
    "chunk size in capitals": (post(b"Transfer-Encoding: chunked\r\n", b"A\r\n0123456789\r\n0\r\n\r\n"), b"0123456789"),
    "space around a value": (post(b"Content-Length:   7  \r\n", b"1234567"), b"1234567"),
    "obs-text in a value": (b"GET /echo HTTP/1.1\r\n" + H + b"X: \xe4\xff\r\n\r\n", b""),
    "one empty line before": (b"\r\n" + NEXT, b""),
    "length zero": (post(b"Content-Length: 0\r\n", b""), b""),
    "GET with a body": (b"GET /echo HTTP/1.1\r\n" + H + b"Content-Length: 3\r\n\r\nabc", b"abc"),
}

BAD = {
    # two framings
    "CL and TE": post(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + NEXT),
    "TE and CL": post(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"0\r\n\r\n" + NEXT),
    "two differing CL": post(b"Content-Length: 7\r\nContent-Length: 3\r\n", b"1234567"),
    "two equal CL": post(b"Content-Length: 7\r\nContent-Length: 7\r\n", b"1234567"),
    "CL list": post(b"Content-Length: 7, 7\r\n", b"1234567"),
    "CL with plus": post(b"Content-Length: +7\r\n", b"1234567"),
    "CL with minus": post(b"Content-Length: -7\r\n", b"1234567"),
    "CL two words": post(b"Content-Length: 7 7\r\n", b"1234567"),
    "CL hex": post(b"Content-Length: 0x7\r\n", b"1234567"),
    "CL empty": post(b"Content-Length: \r\n", b""),
    "CL with a letter": post(b"Content-Length: 7a\r\n", b"1234567"),
    "CL overflow": post(b"Content-Length: 18446744073709551623\r\n", b"1234567"),
    "CL 2^64": post(b"Content-Length: 18446744073709551616\r\n", b""),
    "CL with a vertical tab": post(b"Content-Length: \x0b7\r\n", b"1234567"),
    "CL name with a space": post(b"Content-Length : 7\r\n", b"1234567"),
    "CL name with a tab": post(b"Content-Length\t: 7\r\n", b"1234567"),
    # transfer codings
    "TE in 1.0": b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "TE twice": post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "TE twice, identity": post(b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "TE gzip, chunked": post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
    "TE chunked, identity": post(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
    "TE xchunked": post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "TE chunked;q": post(b"Transfer-Encoding: chunked;q=1\r\n", b"0\r\n\r\n"),
    "TE quoted": post(b"Transfer-Encoding: \"chunked\"\r\n", b"0\r\n\r\n"),
    "TE with a vertical tab": post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"),
    "TE identity": post(b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n", b"abc"),
    "TE empty": post(b"Transfer-Encoding: \r\nContent-Length: 3\r\n", b"abc"),
    "TE name with a space": post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
    "TE folded": post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"),
    # chunks
    "chunk size 0x7": post(b"Transfer-Encoding: chunked\r\n", b"0x7\r\n1234567\r\n0\r\n\r\n"),
    "chunk size +7": post(b"Transfer-Encoding: chunked\r\n", b"+7\r\n1234567\r\n0\r\n\r\n"),
    "chunk size -1": post(b"Transfer-Encoding: chunked\r\n", b"-1\r\n1234567\r\n0\r\n\r\n"),
    "chunk size empty": post(b"Transfer-Encoding: chunked\r\n", b"\r\n1234567\r\n0\r\n\r\n"),
    "chunk size overflow": post(b"Transfer-Encoding: chunked\r\n", b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    "chunk size with spaces before": post(b"Transfer-Encoding: chunked\r\n", b"  3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with spaces behind": post(b"Transfer-Encoding: chunked\r\n", b"3  \r\nabc\r\n0\r\n\r\n"),
    "chunk size, bare LF": post(b"Transfer-Encoding: chunked\r\n", b"3\nabc\r\n0\r\n\r\n"),
    "chunk data, bare LF": post(b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\n0\r\n\r\n"),
    "chunk data without CRLF": post(b"Transfer-Encoding: chunked\r\n", b"3\r\nabc0\r\n\r\n"),
    "chunk data longer": post(b"Transfer-Encoding: chunked\r\n", b"3\r\nabcd\r\n0\r\n\r\n"),
    "last chunk, bare LF": post(b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\n"),
    "last chunk all LF": post(b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\n\n"),
    "extension, bare LF": post(b"Transfer-Encoding: chunked\r\n", b"3;a\nabc\r\n0\r\n\r\n"),
    "extension, bare CR": post(b"Transfer-Encoding: chunked\r\n", b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
    "extension, NUL": post(b"Transfer-Encoding: chunked\r\n", b"3;a\x00\r\nabc\r\n0\r\n\r\n"),
    "long extension": post(b"Transfer-Encoding: chunked\r\n", b"3;" + b"a" * 5000 + b"\r\nabc\r\n0\r\n\r\n"),
    "long trailers": post(b"Transfer-Encoding: chunked\r\n", b"0\r\n" + b"X: y\r\n" * 5000 + b"\r\n"),
    "many leading zeros": post(b"Transfer-Encoding: chunked\r\n", b"0" * 5000 + b"3\r\nabc\r\n0\r\n\r\n"),
    # lines
    "bare LF head": b"GET /echo HTTP/1.1\nHost: a\n\n",
    "bare LF in one field": b"GET /echo HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "bare CR in a value": b"GET /echo HTTP/1.1\r\n" + H + b"X: a\rb\r\n\r\n",
    "CR CR LF": b"GET /echo HTTP/1.1\r\r\n" + H + b"\r\n",
    "head ends CR LF CR X": b"GET /echo HTTP/1.1\r\n" + H + b"\r\rX",
    "NUL in a value": b"GET /echo HTTP/1.1\r\n" + H + b"X: a\x00b\r\n\r\n",
    "NUL in a name": b"GET /echo HTTP/1.1\r\n" + H + b"X\x00Y: b\r\n\r\n",
    "control byte in a value": b"GET /echo HTTP/1.1\r\n" + H + b"X: a\x08b\r\n\r\n",
    "DEL in a value": b"GET /echo HTTP/1.1\r\n" + H + b"X: a\x7fb\r\n\r\n",
    "folded line": b"GET /echo HTTP/1.1\r\n" + H + b"X: a\r\n b\r\n\r\n",
    "folded first line": b"GET /echo HTTP/1.1\r\n X: a\r\n" + H + b"\r\n",
    "empty name": b"GET /echo HTTP/1.1\r\n" + H + b": a\r\n\r\n",
    "no colon": b"GET /echo HTTP/1.1\r\n" + H + b"XY\r\n\r\n",
    "name with a bracket": b"GET /echo HTTP/1.1\r\n" + H + b"X(: a\r\n\r\n",
    "name with obs-text": b"GET /echo HTTP/1.1\r\n" + H + b"X\xe4: a\r\n\r\n",
    # request line
    "HTTP/0.9": b"GET /echo\r\n",
    "HTTP/0.9 with fields": b"GET /echo\r\n" + H + b"\r\n",
    "version 2.0": b"GET /echo HTTP/2.0\r\n" + H + b"\r\n",
    "version 1.2": b"GET /echo HTTP/1.2\r\n" + H + b"\r\n",
    "version 1.10": b"GET /echo HTTP/1.10\r\n" + H + b"\r\n",
    "version 1.": b"GET /echo HTTP/1.\r\n" + H + b"\r\n",
    "version http/1.1": b"GET /echo http/1.1\r\n" + H + b"\r\n",
    "version 0.9": b"GET /echo HTTP/0.9\r\n" + H + b"\r\n",
    "two spaces before the version": b"GET /echo  HTTP/1.1\r\n" + H + b"\r\n",
    "two spaces before the target": b"GET  /echo HTTP/1.1\r\n" + H + b"\r\n",
    "tab for a space": b"GET\t/echo\tHTTP/1.1\r\n" + H + b"\r\n",
    "space in the target": b"GET /ec ho HTTP/1.1\r\n" + H + b"\r\n",
    "space at the end of the line": b"GET /echo HTTP/1.1 \r\n" + H + b"\r\n",
    "space before the method": b" GET /echo HTTP/1.1\r\n" + H + b"\r\n",
    "method with a bracket": b"GE(T /echo HTTP/1.1\r\n" + H + b"\r\n",
    "unknown method": b"FROB /echo HTTP/1.1\r\n" + H + b"\r\n",
    "obs-text in the target": b"GET /echo\xe4 HTTP/1.1\r\n" + H + b"\r\n",
    "fragment in the target": b"GET /echo#a HTTP/1.1\r\n" + H + b"\r\n",
    "backslash in the target": b"GET /echo\\a HTTP/1.1\r\n" + H + b"\r\n",
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "two empty lines before": b"\r\n\r\n" + NEXT,
    # hosts
    "no Host": b"GET /echo HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two equal Hosts": b"GET /echo HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "two Hosts in 1.0": b"GET /echo HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "Host list": b"GET /echo HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "Host with a path": b"GET /echo HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "Host with user": b"GET /echo HTTP/1.1\r\nHost: a@b\r\n\r\n",
    # sizes
    "200 KB field": b"GET /echo HTTP/1.1\r\n" + H + b"X: " + b"a" * 200000 + b"\r\n\r\n",
    "200 KB target": b"GET /echo" + b"a" * 200000 + b" HTTP/1.1\r\n" + H + b"\r\n",
    "9 KB target": b"GET /echo" + b"a" * 9000 + b" HTTP/1.1\r\n" + H + b"\r\n",
    "100 fields": b"GET /echo HTTP/1.1\r\n" + H + b"X: y\r\n" * 100 + b"\r\n",
    # expectations
    "unknown expectation": post(b"Expect: 200-ok\r\nContent-Length: 3\r\n", b"abc"),
}


def talk(port, data, cut):
    """Sends in pieces of `cut` bytes, returns all that comes until the server closes or is silent."""
    s = socket.create_connection(("127.0.0.1", port), timeout=10)
    got = b""
    try:
        for i in range(0, len(data), cut):
            s.sendall(data[i:i + cut])
        s.shutdown(socket.SHUT_WR)
        while True:
            part = s.recv(65536)
            if not part:
                break
            got += part
    except (ConnectionResetError, BrokenPipeError):
        pass
    finally:
        s.close()
    return got


def talk_open(port, data):
    """Without ending our side: the server must answer and close by itself, or answer exactly once."""
    s = socket.create_connection(("127.0.0.1", port), timeout=8)
    got = b""
    try:
        s.sendall(data)
        while True:
            part = s.recv(65536)
            if not part:
                return got, True
            got += part
            if b"\r\n\r\n" in got and got.startswith(b"HTTP/1.1 200"):
                head, _, rest = got.partition(b"\r\n\r\n")
                want = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                if len(rest) >= want:
                    return got, False
    except (ConnectionResetError, BrokenPipeError):
        return got, True
    except TimeoutError:
        return got, False
    finally:
        s.close()


def run(port):
    bad = 0
    for name, (data, body) in GOOD.items():
        for cut in (len(data), 1):
            got, _ = talk_open(port, data) if cut > 1 else (talk(port, data, 1), True)
            # With our side closed early the server may give up; only the whole form must be answered.
            if cut > 1 and (not got.startswith(b"HTTP/1.1 200") or got.partition(b"\r\n\r\n")[2] != body):
                print(f"good case '{name}' failed: {got[:120]!r}")
                bad += 1
    for name, data in BAD.items():
        for pieces in (len(data), 7 if len(data) < 1000 else 4096):
            got = talk(port, data, pieces)
            if b"HTTP/1.1 200" in got or b"HTTP/1.0 200" in got:
                print(f"ACCEPTED '{name}': {got[:200]!r}")
                bad += 1
        got, closed = talk_open(port, data)
        if not closed:
            print(f"HANGS '{name}': {got[:120]!r}")
            bad += 1
        elif got and not got.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")):
            print(f"odd answer to '{name}': {got[:120]!r}")
            bad += 1
    pipelined = NEXT + post(b"Content-Length: 3\r\n", b"abc") + NEXT
    got = talk_open_count(port, pipelined, 3)
    if got != 3:
        print(f"pipelining: {got} answers of 3")
        bad += 1
    print(f"{len(GOOD)} good, {len(BAD)} bad cases, {bad} failures")
    return bad


def talk_open_count(port, data, want):
    s = socket.create_connection(("127.0.0.1", port), timeout=8)
    s.sendall(data)
    got = b""
    try:
        while got.count(b"HTTP/1.1 200") < want:
            part = s.recv(65536)
            if not part:
                break
            got += part
    except TimeoutError:
        pass
    s.close()
    return got.count(b"HTTP/1.1 200")


def main():
    p = subprocess.Popen([sys.argv[1] + "/http_probe"], stdout=subprocess.PIPE, text=True)
    try:
        return run(int(p.stdout.readline())) != 0
    finally:
        p.terminate()
        if p.wait(30) != 0:
            print(f"the server ended with {p.returncode}")
            sys.exit(1)


sys.exit(main())
