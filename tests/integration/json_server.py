"""An HTTP server that answers with JSON, for clients that want another service beside Warren."""
import contextlib
import http.server
import json
import threading


@contextlib.contextmanager
def json_server(answer):
    """URL of a server on loopback; answer(request, body) makes the object that each GET (body b"") or POST gets. request
    has path and headers."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.dumps(answer(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
